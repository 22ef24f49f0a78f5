"""The checkpoint that `tools/eval.py` is given: what it holds, finished as the configuration says."""

from dataclasses import replace
from pathlib import Path

from ppfsl.config import Config
from ppfsl.distributed import World
from ppfsl.errors import UserError
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.inference.finish import finished, unfinished
from ppfsl.methods.build import build_method
from ppfsl.progress import warn
from ppfsl.subject import Data, Trained
from ppfsl.training.checkpoint import Checkpoint, embedder_of, load_checkpoint, method_layer


def given_checkpoint(path: Path, config: Config, world: World) -> Trained:
    """What a checkpoint holds, not finished; warns when it was trained on another split than it is evaluated on.

    Raises:
        UserError: when it cannot be read, or does not go with the configuration's images or finishing.
    """
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
    if begun and differing:
        warn(
            f"{path} was trained with data.{differing[0]} = {trained_on[f'data.{differing[0]}']!r}, so it may "
            f"have seen the {config.evaluation.part} classes of this evaluation"
        )
    layer = method_layer(checkpoint, str(path))
    if layer is not None and config.embedding.active:
        raise UserError(
            f"the keys of embedding do not go with {path}, whose method learned from embeddings as they were "
            "in training; leave them out"
        )
    return Trained(embedder, layer, trained_on.get("backbone.pretrained", "none"), stages, processes_of(checkpoint))


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
