"""result.json: every adaptation on every shot's episodes and on the fixed support set, each evaluated once."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppfsl.config import Adaptation, Config
from ppfsl.data.class_split import part_images
from ppfsl.data.support_set import SupportSet
from ppfsl.data.table import ImageTable
from ppfsl.distributed import ALONE, World
from ppfsl.errors import UserError
from ppfsl.evaluation import Evaluation, evaluate
from ppfsl.files import kind_of, write_json
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.methods.anil import Anil
from ppfsl.methods.base import Method
from ppfsl.methods.build import build_method
from ppfsl.methods.gradient_based import GradientBased
from ppfsl.methods.similarity import Similarity
from ppfsl.progress import detail
from ppfsl.questions import episodes_of, run_pairs
from ppfsl.result_file import read_result
from ppfsl.runtime import git_revision
from ppfsl.subject import Data, Subject, Trained, gather_for
from ppfsl.verification import choose_threshold, verify
from ppfsl.version import __version__


def verification(
    config: Config, data: Data, trained: Trained, world: World = ALONE, cache: EmbeddingCache = NO_CACHE
) -> dict[str, Any]:
    """How well a run tells pairs of evaluated classes apart, at the threshold that is best on validation classes."""
    assert config.verification is not None
    similarity = Similarity.of(trained.layer)
    scored = []
    for part, rows, pairs in run_pairs(config, data):
        shown = np.unique(np.concatenate([pairs.left, pairs.right]))
        what = f"verification, {part} images"
        projected = cache.projected(trained.embedder, data.table, rows[shown], what, world)
        left, right = (projected[np.searchsorted(shown, side)] for side in (pairs.left, pairs.right))
        scored.append((similarity(left, right), pairs.same))
    choosing, judged = scored
    return {
        "part": config.evaluation.part,
        "similarity": similarity.name,
        "threshold_part": "validation",
        "seed": config.verification.seed,
        **verify(*judged, choose_threshold(*choosing)).to_json(),
    }


def write_results(
    config: Config,
    name: str,
    path: Path,
    data: Data,
    subject: Subject,
    support_set: SupportSet,
    world: World = ALONE,
    cache: EmbeddingCache = NO_CACHE,
) -> dict[str, Any]:
    """Evaluate what is not yet in result.json, which is written after every row, so that a killed run repeats one.

    A row is taken over when nothing that it depends on has changed; rows that the configuration no longer asks for go.

    Args:
        config: adaptations and episodes.
        name: of the configuration.
        path: of result.json.
        data, subject: what is evaluated on what.
        support_set: evaluated as one more row per adaptation.
        world: the processes that share the work; process 0 alone reads and writes the file.
        cache: keeps what the backbone makes of images for verification.

    Returns:
        What is in result.json.

    Raises:
        UserError: when result.json is damaged, or answers are not finite; what came before them is kept.
    """
    rows, old_pairs = world.on_main(lambda: _old_results(path))
    result = world.on_main(lambda: _header(config, name, data, subject, world))
    # Processor kinds differ in last bits, but processes must agree on what is left to do.
    evaluated_on = world.on_main(lambda: _evaluated_on(data, subject))
    common = [evaluated_on, config.seed, result["versions"]]
    verified = [*_chosen_on(config, data), config.evaluation.part, repr(config.verification)]
    pairs_fingerprint = _fingerprint([*common, *verified])
    if config.verification is not None and old_pairs.get("fingerprint") == pairs_fingerprint:
        result["verification"] = old_pairs
    plan = []
    for adaptation in config.adaptations:
        method = build_method(adaptation, subject.trained.embedder, config.seed, subject.trained.layer)
        for task in (*config.evaluation.tasks, None):
            facts = _facts(config, adaptation, method, task, support_set)
            identity = [*common, facts, support_set.to_json() if task is None else None]
            plan.append((_fingerprint(identity), facts, method, task))
    for fingerprint, facts, method, task in plan:
        if fingerprint in rows:
            detail(f"{method.name}, {facts['way']}-way {facts['shot']}-shot: taken from {path}")
        else:
            episodes = episodes_of(config, data, task, support_set)
            title = f"{method.name}, {'support set' if task is None else f'{task[0]}-way {task[1]}-shot'}"
            classes = np.unique(data.table.labels[data.rows])
            done = evaluate(method, gather_for(method, data, subject), episodes, classes, title, world=world)
            if done.unanswered:
                asked = len(episodes) * done.way * done.query
                raise UserError(
                    f"{title}: {done.unanswered} of {asked} answers are not finite; lower the adaptation's lr or steps"
                )
            rows[fingerprint] = {**facts, **_scores(done, data.table), "fingerprint": fingerprint}
            if world.main:
                write_json(path, _filled(result, plan, rows))
    result = _filled(result, plan, rows)
    if config.verification is not None and "verification" not in result:
        found = verification(config, data, subject.trained, world, cache)
        result["verification"] = {**found, "fingerprint": pairs_fingerprint}
    if world.main:
        write_json(path, result)
    return result


def _filled(result: dict[str, Any], plan: list[Any], rows: Mapping[str, Any]) -> dict[str, Any]:
    """The result with the rows of the plan that there are, old ones included: a killed run must not lose these."""
    return {**result, "evaluations": [rows[fingerprint] for fingerprint, *_ in plan if fingerprint in rows]}


def _fingerprint(identity: list[Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _evaluated_on(data: Data, subject: Subject) -> str:
    """A digest of what the embedder made of the images, which stands for weights and pixels, and of their classes."""
    labels = data.table.labels[data.rows].tolist()
    names = [data.table.class_names[label] for label in sorted(set(labels))]
    digest = hashlib.sha256(json.dumps([labels, names]).encode())
    digest.update(np.ascontiguousarray(subject.projected).data)  # which copies nothing
    if subject.trained.layer is not None:
        for tensor in subject.trained.layer.state_dict().values():
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def pictures_digest(data: Data) -> str:
    """A digest of the evaluated pictures' names and labels: where it is the same, so are episodes of the same seed."""
    named = [(data.table.files[row], int(data.table.labels[row])) for row in data.rows]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _chosen_on(config: Config, data: Data) -> list[Any]:
    """What says which images choose verification's threshold: the table's hash stands for their pixels and labels."""
    if config.verification is None:
        return []
    return [data.table.hash, part_images(data.table, data.split, "validation").tolist()]


def _facts(
    config: Config, adaptation: Adaptation, method: Method, task: tuple[int, int] | None, support_set: SupportSet
) -> dict[str, Any]:
    """What an entry of result.json says beside its scores; task None stands for the fixed support set."""
    wanted = config.evaluation
    if task is None:
        way, shot, query = support_set.way, support_set.shot, len(support_set.query) // support_set.way
        episodes, seed = 1, support_set.seed
    else:
        (way, shot), query, episodes, seed = task, wanted.query, wanted.episodes, wanted.seed
    settings = adaptation.model_dump(mode="json", exclude={"label"})
    if isinstance(method, GradientBased | Anil):  # what training decided where the adaptation leaves it open
        effective = {key: getattr(method, key, None) for key in ("steps", "lr", "batch_norm")}
        settings |= {key: value for key, value in effective.items() if key in settings and value is not None}
    return {
        "part": wanted.part,
        "way": way,
        "shot": shot,
        "query": query,
        "episodes": episodes,
        "seed": seed,
        "support_set": task is None,
        "adaptation": method.name,
        "settings": settings,
        "transductive": method.transductive,
        "batch_norm": method.batch_norm if isinstance(method, GradientBased) else "eval",
        "chance": 1 / way,
    }


def _scores(done: Evaluation, table: ImageTable) -> dict[str, Any]:
    return {
        "accuracy": done.accuracy,
        "ci95": done.ci95,
        "seconds": round(done.seconds, 3),
        # Right queries of each episode: what paired differences between methods are computed from.
        "episode_correct": np.rint(done.accuracies * done.way * done.query).astype(int).tolist(),
        "per_class": done.per_class(table.class_names),
        "confusion": done.confusion_of_drawn(),
    }


def _header(config: Config, name: str, data: Data, subject: Subject, world: World) -> dict[str, Any]:
    trained = subject.trained
    return {
        "schema": 1,
        "name": name,
        "dataset": data.table.name,
        "split": data.split.name,
        "pictures": pictures_digest(data),
        "backbone": trained.embedder.architecture.backbone,
        "method": config.method,
        # A file is called by its name: its folder concerns one machine alone.
        "pretrained": None if trained.pretrained == "none" else Path(trained.pretrained).name,
        "git": git_revision(),
        "seed": config.seed if trained.seed is None else trained.seed,
        "adaptation_seed": config.seed,  # by which adaptations draw, here, whatever the training's
        "image_size": trained.embedder.architecture.image_size,
        "embedding": config.embedding.model_dump(mode="json"),
        "stages": list(trained.stages),
        **({} if trained.checkpoint is None else {"checkpoint": trained.checkpoint}),
        "processes": {"training": list(trained.processes), "evaluation": world.size},
        "versions": {"paddle": paddle.__version__, "ppfsl": __version__, "numpy": np.__version__},
        "evaluations": [],
    }


def _old_results(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of an earlier result.json: its evaluations, by fingerprint, and its verification, empty where there is none.

    Raises:
        UserError: when the file is damaged.
    """
    if kind_of(path) is None:
        return {}, {}

    result = read_result(path)
    rows = {entry["fingerprint"]: entry for entry in result["evaluations"] if "fingerprint" in entry}
    return rows, result.get("verification") or {}
