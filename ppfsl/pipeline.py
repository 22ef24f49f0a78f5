"""A run from raw data to report: what `tools/train.py` does, each step skipped when its result is there."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.backbones.weights import check_pretrained, load_pretrained, weights_of
from ppfsl.config import Config
from ppfsl.config_file import run_folder, to_yaml
from ppfsl.data.class_split import part_images
from ppfsl.data.datasets import check_split, open_split, open_table
from ppfsl.data.roots import cache_root
from ppfsl.data.support_set import SupportSet, save_support_set
from ppfsl.data.table import ImageTable
from ppfsl.distributed import ALONE, World, together
from ppfsl.errors import UserError
from ppfsl.files import kind_of, make_folder, only_one, sweep, write_text
from ppfsl.given import check_results, finished_checkpoint, given_checkpoint, processes_of
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.inference.finish import check_finish, finished
from ppfsl.interrupts import noted
from ppfsl.onednn import operators, problem
from ppfsl.progress import detail, say, warn
from ppfsl.questions import check_verification, episode_sampler, run_support_set
from ppfsl.reporting.show import show_run
from ppfsl.results import pictures_digest, write_results
from ppfsl.runtime import choose_device, peak_memory
from ppfsl.subject import Data, Subject, Trained
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ppfsl.training.job import Job, check_job
from ppfsl.training.pretrain import pretrain
from ppfsl.training.validation import Validation
from ppfsl.version import __version__


def run(config: Config, name: str, checkpoint: Path | None = None) -> Path:
    """Run everything that a configuration describes; the run directory.

    Training resumes where an interrupted run stopped; evaluations that result.json holds for the same embeddings and
    settings are not repeated.

    Args:
        config: what to do.
        name: of the configuration.
        checkpoint: evaluate the embedder of this file, or of this run's folder the best one, and train nothing. The
            results go to `evaluation_folder`.

    Raises:
        UserError: for every mistake that the user can mend.
    """
    with together() as world, noted():
        device = choose_device(config.device, world)
        if config.amp != "none" and not device.startswith("gpu"):
            raise UserError(f"amp: {config.amp} needs a GPU, and this run is on the {device}; set it to none")
        if config.onednn and config.pretrain and device == "cpu" and (reason := problem()):
            warn(f"training goes without oneDNN, more slowly: {reason}")
        with operators(config.onednn):
            return _run(config, name, checkpoint, world)


def _run(config: Config, name: str, checkpoint: Path | None, world: World) -> Path:
    given = None
    if checkpoint is not None:
        config, given = given_checkpoint(checkpoint, config, name, world)
    folder = run_folder(config, name)
    if given is None:
        world.on_main(lambda: _check_weights(config, folder))  # decoding may take minutes
    data = world.in_turns(lambda: open_data(config))
    if world.size > 1:
        world.check_same(common_facts(config, data.table))
    # Before training: what the data cannot serve is said at once, not after hours.
    check_episodes(config, data)
    check_verification(config, data)
    check_finish(config.embedding, data)
    support_set = world.on_main(lambda: run_support_set(config, data))
    with contextlib.ExitStack() as held:  # until result and report are written, which two runs must not mix
        if given is None:
            job, embedder = prepared_training(config, data, folder, world)
            held.enter_context(_at_work(folder, config, data, world))
            trained = _trained(config, data, job, embedder)
        else:
            trained = finished_checkpoint(given, config, data, embedding_cache(config), world)
            held.enter_context(_at_work(folder, config, data, world, given))
        _evaluate(config, name, folder, data, trained, support_set, world)
    if (memory := peak_memory()) is not None:
        say(f"peak memory: {memory:.1f} GB")
    return folder


def _trained(config: Config, data: Data, job: Job, embedder: Embedder) -> Trained:
    """Train, then finish the embedder, which the run's best checkpoint holds thereafter."""
    layer, world = pretrain(job, embedder), job.world
    last = world.on_main(lambda: load_checkpoint(job.last))
    embedder = finished(embedder, config.embedding, data, job.cache, world)
    if world.main:
        _keep_finished(last, embedder, job.best)
    stages = tuple(stage.objective.name for stage in config.pretrain)
    return Trained(embedder, layer, config.backbone.pretrained, stages, processes_of(last))


def _evaluate(
    config: Config, name: str, folder: Path, data: Data, trained: Trained, support_set: SupportSet, world: World
) -> None:
    """Write and show the results."""
    if world.main:
        save_support_set(support_set, folder / "support_set.json")
    cache, what = embedding_cache(config), f"embedding {config.evaluation.part} images"
    subject = Subject(trained, cache.projected(trained.embedder, data.table, data.rows, what, world))
    result = write_results(config, name, folder / "result.json", data, subject, support_set, world, cache)
    if world.main:
        show_run(folder, result, config, data, subject, support_set)


def _check_weights(config: Config, folder: Path) -> None:
    """Raise where training that has not begun lacks the weights that it starts from."""
    if kind_of(folder / "checkpoints" / "last.safetensors") is None:
        check_pretrained(config.backbone.pretrained)


def _keep_finished(trained: Checkpoint, embedder: Embedder, best: Path) -> None:
    """Let a run's best checkpoint hold the embedder as evaluations see it; nothing is written where it does."""
    wanted = replace(trained, architecture=embedder.architecture, weights=weights_of(embedder))
    if kind_of(best) is None:  # somebody has removed it since
        save_checkpoint(wanted, best)
        return
    kept = load_checkpoint(best)
    same = kept.architecture == wanted.architecture and kept.weights.keys() == wanted.weights.keys()
    if not same or any((kept.weights[name] != value).any() for name, value in wanted.weights.items()):
        save_checkpoint(wanted, best)


def open_data(config: Config) -> Data:
    """The image table, its split, and the evaluated part's images."""
    check_split(config.data)  # decoding may take minutes
    table = open_table(config.data)
    split = open_split(config.data, table)
    rows = part_images(table, split, config.evaluation.part)
    detail(f"class split {split.name}: {len(rows)} images of {config.evaluation.part} classes are evaluated")
    return Data(table, split, rows)


def check_episodes(config: Config, data: Data) -> None:
    """Raise when the data cannot serve the episodes of the evaluation.

    Raises:
        UserError: saying what is too small.
    """
    for way, shot in config.evaluation.tasks:
        episode_sampler(config, data, way, shot)


def architecture_of(config: Config) -> Architecture:
    """The embedder that a configuration describes."""
    backbone = config.backbone
    options = {key: value for key in ("scale", "width", "pools") if (value := getattr(backbone, key)) is not None}
    return Architecture(
        backbone=backbone.name,
        image_size=config.data.image_size,
        channels=config.data.channels,
        projection=None if backbone.projection == "none" else backbone.projection,
        normalization=backbone.normalization,
        options=tuple(sorted(options.items())),
    )


def prepared_training(config: Config, data: Data, folder: Path, world: World = ALONE) -> tuple[Job, Embedder]:
    """What `pretrain` is to do, or has done, in a folder, and the embedder that it begins with.

    Nothing is written.

    Raises:
        UserError: when the folder holds another run, the weights cannot be had, or the classes are too small.
    """
    embedder, cache = build_embedder(architecture_of(config), config.seed), embedding_cache(config)
    table, split = data.table, data.split
    validation, base = None, np.empty(0, dtype=np.int64)
    if config.pretrain:
        base = part_images(table, split, "base")
        if split.validation.classes:
            rows = part_images(table, split, "validation")
            validation = Validation(table, rows, config.validation, config.seed, world, cache)
        for index, stage in enumerate(config.pretrain):
            if validation is None and stage.patience is not None:
                raise UserError(
                    f"pretrain.{index}.patience waits for validation accuracy, but split {split.name} has no "
                    "validation classes; leave patience out"
                )
    job = Job(
        config.pretrain,
        table,
        base,
        validation,
        config.seed,
        trained_on(config, table),
        folder,
        world,
        cache,
        config.amp != "none",
    )
    if not check_job(job, embedder):
        world.in_turns(lambda: load_pretrained(embedder, config.backbone.pretrained))
    return job, embedder


@contextlib.contextmanager
def _at_work(folder: Path, config: Config, data: Data, world: World, given: Trained | None = None) -> Iterator[None]:
    """Let process 0 hold the run directory, cleared of what killed runs left, with the configuration in it."""
    if not world.main:
        yield
        return
    make_folder(folder)
    with only_one(folder):
        # For evaluations once more, since another may have come and gone.
        check_results(folder, given, pictures_digest(data))
        for place in (folder / "checkpoints", folder / "pictures"):
            sweep(place)
        sweep(folder, older=3600)  # where tools that hold no lock may be writing a classifier or a page
        write_text(folder / "config.yaml", to_yaml(config))
        yield


def embedding_cache(config: Config) -> EmbeddingCache:
    """Where a run keeps what frozen backbones make of images."""
    return EmbeddingCache.in_folder(cache_root(config.data.cache_dir), config.data.embedding_cache)


def trained_on(config: Config, table: ImageTable) -> dict[str, Any]:
    """All that an embedder's weights depend on, under the configuration's keys, flat."""
    tree = config.model_dump(mode="json", include={"seed", "data", "backbone", "pretrain"})
    unread = ["root", "folder", "cache_dir", "embedding_cache"]  # where the data lie; the hash says what they are
    unread += ["split_ratio", "split_seed"] if config.data.split is not None else []
    unread += ["synthetic"] if config.data.name != "synthetic" else []
    for key in unread:
        del tree["data"][key]
    facts = {"stages": len(config.pretrain), "data.hash": table.hash, **_flatten(tree)}
    if config.data.split is not None and config.data.split.endswith(".json"):  # the user's own file, which may change
        facts["data.split.sha256"] = hashlib.sha256(Path(config.data.split).read_bytes()).hexdigest()
    weights = Path(config.backbone.pretrained)
    if kind_of(weights) == "file":  # a run that has begun needs it no longer, but must not take another one for it
        facts["backbone.pretrained.sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    if config.pretrain:  # where nothing is trained, weights depend on none of these
        facts |= {"onednn": config.onednn, "amp": config.amp}
        facts |= _flatten(config.model_dump(mode="json", include={"validation"}))
    return facts


def common_facts(config: Config, table: ImageTable) -> dict[str, Any]:
    """All that the processes of one run must agree on; where they keep their data is each host's own affair."""
    tree = config.model_dump(mode="json", exclude={"device", "threads", "output_dir", "data"})
    versions = {"ppfsl's version": __version__, "Paddle's version": paddle.__version__}
    return {**versions, **_flatten(tree), **trained_on(config, table)}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": [{"b": [1, 2]}]} -> {"a.0.b": [1, 2]}: lists of plain values stay whole."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(index): item for index, item in enumerate(value)}
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
