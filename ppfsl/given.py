"""The checkpoint that `tools/eval.py` is given: what it holds, finished as the configuration says."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddle import nn

from ppfsl.backbones.embedder import Embedder
from ppfsl.config import Config
from ppfsl.config_file import evaluation_folder
from ppfsl.distributed import World
from ppfsl.errors import UserError
from ppfsl.files import kind_of
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.inference.finish import finished, unfinished
from ppfsl.methods.build import build_method
from ppfsl.progress import warn
from ppfsl.result_file import read_result
from ppfsl.subject import Data, Trained
from ppfsl.training.checkpoint import Checkpoint, checkpoint_file, embedder_of, load_checkpoint, method_layer


def given_checkpoint(path: Path, config: Config, name: str, world: World) -> tuple[Config, Trained]:
    """What a checkpoint holds, not finished, and the configuration with the folder that its results go to.

    What adaptations leave open is filled in as the checkpoint's own training had it. Warns when it was trained on
    another split than it is evaluated on.

    Args:
        path: the file, or the folder of a run, whose best weights are taken.
        config, name: of the evaluation.
        world: the processes that evaluate together.

    Raises:
        UserError: when it cannot be read, does not go with the configuration's images or finishing, or the folder holds
            the results of other weights.
    """
    file, folder = world.on_main(lambda: _places(path, config, name))
    trained, objective = _opened(file, config, world)
    world.on_main(lambda: check_results(folder, trained))
    config = config.as_trained_by(objective)
    return config.model_copy(update={"output_dir": str(folder)}), trained


def _places(path: Path, config: Config, name: str) -> tuple[Path, Path]:
    file = checkpoint_file(path)
    return file, evaluation_folder(config, name, file)


def _opened(path: Path, config: Config, world: World) -> tuple[Trained, dict[str, Any]]:
    """What a checkpoint holds, and its last stage's objective, empty where there was none."""
    checkpoint = world.on_main(lambda: load_checkpoint(path))
    architecture = checkpoint.architecture
    for key, value in (("image_size", architecture.image_size), ("channels", architecture.channels)):
        if getattr(config.data, key) != value:
            raise UserError(
                f"{path} takes data.{key} = {value}, the configuration says {getattr(config.data, key)}; "
                f"add -o data.{key}={value}"
            )
    embedder = unfinished(embedder_of(checkpoint, str(path)))
    trained_on, progress = checkpoint.facts.get("trained_on", {}), checkpoint.facts.get("progress", {})
    begun = progress.get("stage", 0) + (progress.get("epoch", 0) > 0)
    stages = tuple(trained_on[f"pretrain.{index}.objective.name"] for index in range(begun))
    wanted = config.data.model_dump(mode="json")
    keys = ("name", "split") if wanted["split"] is not None else ("name", "split", "split_ratio", "split_seed")
    differing = [key for key in keys if trained_on.get(f"data.{key}", wanted[key]) != wanted[key]]
    # Nobody's pictures are among the drawn ones.
    apart = differing[:1] == ["name"] and "synthetic" in (trained_on["data.name"], wanted["name"])
    if begun and differing and not apart:
        warn(
            f"{path} was trained with data.{differing[0]} = {trained_on[f'data.{differing[0]}']!r}, so it may "
            f"have seen the {config.evaluation.part} classes of this evaluation"
        )
    sizes = [trained_on.get(f"data.{key}") for key in ("cached_size", "image_size")]
    if begun and (cached := sizes[0] or sizes[1]) not in (None, config.data.table_size):
        warn(
            f"{path} was trained on images cut from {cached} px, this evaluation cuts them from "
            f"{config.data.table_size}; add -o data.cached_size={cached} where that is not wanted"
        )
    layer = method_layer(checkpoint, str(path))
    if layer is not None and config.embedding.active:
        raise UserError(
            f"the keys of embedding do not go with {path}, whose method learned from embeddings as they were "
            "in training; leave them out"
        )
    pretrained, processes = trained_on.get("backbone.pretrained", "none"), processes_of(checkpoint)
    named = {"file": _name(path), "weights_sha256": _digest(embedder, layer)}
    prefix = f"pretrain.{begun - 1}.objective."
    objective = {key.removeprefix(prefix): value for key, value in trained_on.items() if key.startswith(prefix)}
    return Trained(embedder, layer, pretrained, stages, processes, trained_on.get("seed"), named), objective


def _name(path: Path) -> str:
    """A file of a run with the run's name, others by theirs alone: folders above concern one machine."""
    parts = path.absolute().parts
    return "/".join(parts[-3:] if path.absolute().parent.name == "checkpoints" else parts[-1:])


def _digest(embedder: Embedder, layer: nn.Layer | None) -> str:
    """Of an unfinished embedder and a method's layer: the same for all checkpoints of the same trained weights."""
    digest = hashlib.sha256()
    for part in (embedder, layer):
        for name, tensor in sorted(({} if part is None else part.state_dict()).items()):
            digest.update(f"{name} {list(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def check_results(folder: Path, given: Trained | None, pictures: str | None = None) -> None:
    """Raise where a folder holds the results of other weights, or of this checkpoint on other pictures.

    Older results do not tell whose they are, nor on what.

    Args:
        folder: that is to hold results.
        given: the checkpoint that is evaluated; None: a run trains its own, and may ask of other pictures anew.
        pictures: digest of those that are evaluated; None: not known yet.

    Raises:
        UserError: naming the checkpoint of these, or what it was asked about.
    """
    path = folder / "result.json"
    result = {} if kind_of(path) is None else read_result(path)
    before = result.get("checkpoint")
    own = None if given is None or given.checkpoint is None else given.checkpoint["weights_sha256"]
    if before is not None and before.get("weights_sha256") != own:
        raise UserError(
            f"{folder} holds the results of other weights, those that {before.get('file')} had then; "
            "choose another output_dir, or remove that folder"
        )
    if given is not None and pictures is not None and result.get("pictures", pictures) != pictures:
        raise UserError(
            f"{folder} holds results on other pictures: {result['evaluations'][0]['part']} classes of "
            f"{result['dataset']}, split {result['split']}; choose another output_dir, or remove that folder"
        )


def finished_checkpoint(given: Trained, config: Config, data: Data, cache: EmbeddingCache, world: World) -> Trained:
    """The same with its embedder finished; what it lacks for the adaptations is said before anything is written.

    Raises:
        UserError: when it cannot be finished so, or an adaptation needs a layer that it lacks.
    """
    result = replace(given, embedder=finished(given.embedder, config.embedding, data, cache, world))
    for adaptation in config.adaptations:
        build_method(adaptation, result.embedder, config.seed, result.layer)
    return result


def processes_of(checkpoint: Checkpoint) -> tuple[int, ...]:
    """How many processes trained a checkpoint."""
    return tuple(checkpoint.facts.get("progress", {}).get("processes", ()))
