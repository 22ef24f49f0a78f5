"""What is trained on what, how far it is, and which checkpoint it may go on from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppfsl.backbones.embedder import Embedder
from ppfsl.config import StageConfig
from ppfsl.data.table import ImageTable
from ppfsl.distributed import ALONE, World
from ppfsl.errors import UserError
from ppfsl.files import kind_of
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint
from ppfsl.training.objectives.build import build_objective
from ppfsl.training.objectives.tasks import Tasks
from ppfsl.training.stage import base_labels
from ppfsl.training.validation import Validation


@dataclass(frozen=True)
class Progress:
    """How far training is; a checkpoint holds it as JSON.

    Attributes:
        stage: index of the stage that is running or comes next; the number of stages when training is done.
        epoch: epochs of that stage that are done.
        steps, epochs: optimizer steps and epochs done in all stages.
        best: the best validation accuracy of the run so far; None before the first.
        stage_best: the same within the stage.
        waited: validations since `stage_best`.
        metrics_bytes: size of metrics.jsonl when the checkpoint was written.
        processes: how many processes have trained: several numbers where it was resumed with another.
    """

    stage: int = 0
    epoch: int = 0
    steps: int = 0
    epochs: int = 0
    best: float | None = None
    stage_best: float | None = None
    waited: int = 0
    metrics_bytes: int = 0
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Job:
    """What is trained on what.

    Attributes:
        stages: in order.
        table: where the images are.
        base: int64 [N], the base part's images.
        validation: what chooses the best weights; None: the last weights are taken.
        seed: of the run.
        facts: what the weights depend on; checkpoints of other facts are refused.
        folder: the run directory, of process 0.
        world: the processes that train together.
        cache: keeps what a frozen backbone makes of images.
        mixed: whether networks run in 16 bits, on a GPU.
    """

    stages: tuple[StageConfig, ...]
    table: ImageTable
    base: np.ndarray
    validation: Validation | None
    seed: int
    facts: dict[str, Any]
    folder: Path
    world: World = ALONE
    cache: EmbeddingCache = NO_CACHE
    mixed: bool = False

    @property
    def last(self) -> Path:
        """The checkpoint that training resumes from."""
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The best weights so far; where a run has come to its end, finished for evaluation."""
        return self.folder / "checkpoints" / "best.safetensors"


def stage_name(stages: tuple[StageConfig, ...], index: int) -> str:
    """A stage's name in metrics and file names, such as "1_cross_entropy"."""
    return f"{index + 1}_{stages[index].objective.name}"


def check_job(job: Job, embedder: Embedder) -> bool:
    """Raise what stands against a job at once, not after hours in its first stages; nothing is written.

    Args:
        job: the training.
        embedder: what it would train.

    Returns:
        Whether the job has been begun, so that `pretrain` takes the weights of its folder.

    Raises:
        UserError: when the base classes cannot fill a stage's batches, or the folder holds another run.
    """
    labels = base_labels(job.table, job.base)
    for index, stage in enumerate(job.stages):
        try:
            objective = build_objective(stage.objective, labels, embedder, seed=0)
            if job.mixed and isinstance(objective, Tasks):
                raise UserError(
                    f"amp: O1 does not go with {stage.objective.name}, whose steps need 32 bits; set it to none"
                )
        except UserError as error:
            raise UserError(f"{stage_name(job.stages, index)}: {error}") from None
    return job.world.on_main(lambda: last_checkpoint(job) is not None)


def last_checkpoint(job: Job) -> Checkpoint | None:
    """What training goes on from; None where there is nothing to go on from.

    Raises:
        UserError: when the folder holds another run, unless that one stopped before its first epoch was done.
    """
    if kind_of(job.last) is None:
        return None
    checkpoint = load_checkpoint(job.last)
    trained_on = {**_what_older_versions_did(job.facts), **checkpoint.facts["trained_on"]}
    # A key that only one side has: another version's, or the hash of a file that has been moved away since.
    differing = [key for key in trained_on.keys() & job.facts.keys() if trained_on[key] != job.facts[key]]
    if not differing:
        return checkpoint
    if trained_on["stages"] and not checkpoint.facts["progress"]["epochs"]:
        return None
    # First what explains other differences, last what is explained by them.
    key = min(differing, key=lambda key: (key != "stages", key == "data.hash", key))
    what = f"{key} = {trained_on[key]!r}, this one has {job.facts[key]!r}"
    raise UserError(
        f"{job.folder} holds a run with {'other images or labels' if key == 'data.hash' else what}; "
        "choose another output_dir, or remove that folder to start afresh"
    )


_ADDED = {"image_size": None, "keep_start": 0.0, "decayed": "all", "objective.rotation_weight": 0.0}
"""Keys of stages that older versions did not have, and what these did."""


def _what_older_versions_did(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The values of those among a job's facts that a checkpoint of an older version does not tell."""
    suffixes = {key: key.split(".", 2)[-1] for key in facts if key.startswith("pretrain.")}
    return {key: _ADDED[suffix] for key, suffix in suffixes.items() if suffix in _ADDED}
