"""Pretraining: the chain of stages, with validation, best and last checkpoints, early stopping and resume."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from ppfsl.backbones.embedder import Embedder
from ppfsl.backbones.weights import load_strictly, weights_of
from ppfsl.config import StageConfig
from ppfsl.config.objectives import judged_alike
from ppfsl.data.table import ImageTable
from ppfsl.distributed import ALONE, World
from ppfsl.errors import UserError
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.methods.base import Learner
from ppfsl.methods.layers import describe
from ppfsl.progress import progress_bar, say, warn
from ppfsl.randomness import generator
from ppfsl.reporting.metrics import MetricLog, NoMetricLog
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, method_layer, save_checkpoint
from ppfsl.training.objectives.build import build_objective
from ppfsl.training.objectives.tasks import Tasks
from ppfsl.training.stage import NonFiniteLossError, Stage, Step, base_labels
from ppfsl.training.validation import Validation

_LOG_EVERY = 10  # optimizer steps

Log = MetricLog | NoMetricLog


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
    return job.world.on_main(lambda: _last_checkpoint(job) is not None)


def pretrain(job: Job, embedder: Embedder) -> nn.Layer | None:
    """Train the embedder through all stages, in place, or as far as an interrupted run still has to go.

    Every stage starts from the best weights so far. `embedder` ends with the best weights of the run by validation
    accuracy, or with the last ones where there is no validation. Only accuracies of one method are compared: a stage
    that is scored by another method than the one before it begins a new comparison.

    Returns:
        What the last stage's method learned beside the embedder; None: nothing.

    Raises:
        UserError: what `check_job` finds, but later; when the loss is not finite.
    """
    progress, state = _resume(job, embedder)
    if progress.stage < len(job.stages) or not (job.folder / "vdl").exists():  # else a page may be showing the curves
        with MetricLog(job.folder, progress.metrics_bytes) if job.world.main else NoMetricLog() as log:
            while progress.stage < len(job.stages):
                progress = _run_stage(job, embedder, progress, state, log)
                state = {}
    # Which now holds what is best; `job.best` may be finished already.
    checkpoint = job.world.on_main(lambda: load_checkpoint(job.last))
    load_strictly(embedder, checkpoint.weights, str(job.last))
    return method_layer(checkpoint, str(job.last))


def _resume(job: Job, embedder: Embedder) -> tuple[Progress, dict[str, np.ndarray]]:
    """Load the last checkpoint into the embedder, if there is one: where to go on, and the stage's state."""
    checkpoint = job.world.on_main(lambda: _last_checkpoint(job))
    if checkpoint is None:
        progress = Progress()
        _save(job, embedder, progress, job.best)
        _save(job, embedder, progress, job.last)  # after `best`, so that where there is a last there is a best
        return progress, {}
    load_strictly(embedder, checkpoint.weights, str(job.last))
    progress = Progress(**checkpoint.facts["progress"])
    progress = replace(progress, processes=tuple(progress.processes))
    if progress.epochs > 0 and progress.stage < len(job.stages):
        say(f"resuming {stage_name(job.stages, progress.stage)} after {progress.epoch} epochs")
    return progress, dict(checkpoint.training)


def _last_checkpoint(job: Job) -> Checkpoint | None:
    """What training goes on from; None where there is nothing to go on from.

    Raises:
        UserError: when the folder holds another run, unless that one stopped before its first epoch was done.
    """
    if not job.last.exists():
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


def _run_stage(job: Job, embedder: Embedder, progress: Progress, state: dict[str, np.ndarray], log: Log) -> Progress:
    """Train one stage to its end; the progress with which the next one begins."""
    config, name = job.stages[progress.stage], stage_name(job.stages, progress.stage)
    seed = int(generator(job.seed, "stage", progress.stage).integers(1 << 62))
    stage = Stage(config, embedder, job.table, job.base, seed, job.world, job.cache, job.mixed)
    if progress.epoch:
        stage.load_state(state)
    elif progress.stage and not judged_alike(job.stages[progress.stage - 1].objective, config.objective):
        progress = replace(progress, best=None)
    while progress.epoch < config.epochs and not (config.patience and progress.waited >= config.patience):
        before = progress
        progress = _run_epoch(job, stage, name, progress, log)
        if job.validation is None or progress.best != before.best:
            with stage.as_judged():
                _save(job, embedder, progress, job.best, stage.objective.method)
        progress = replace(progress, metrics_bytes=log.sync())
        _save(job, embedder, progress, job.last, stage.objective.method, stage.state())
    if progress.epoch < config.epochs:
        say(f"{name}: stopped early, {progress.waited} validations without a better one")
    if job.validation is not None and progress.stage and progress.stage_best != progress.best:
        say(f"{name}: no epoch was better than the weights it started from, which are kept")
    best = job.world.on_main(lambda: load_checkpoint(job.best))
    load_strictly(embedder, best.weights, str(job.best))
    _save_as(job, best, progress, job.folder / "checkpoints" / f"{name}.safetensors")
    progress = replace(progress, stage=progress.stage + 1, epoch=0, stage_best=None, waited=0)
    _save_as(job, best, progress, job.last)
    return progress


def _run_epoch(job: Job, stage: Stage, name: str, progress: Progress, log: Log) -> Progress:
    """Train and validate for one epoch."""
    started, seen, waited = time.perf_counter(), 0, 0.0
    recent: list[Step] = []
    epoch_terms: list[dict[str, float]] = []
    epoch = progress.epochs + 1
    title = f"{name} {progress.epoch + 1}/{stage.config.epochs}"
    try:
        with progress_bar(stage.steps_per_epoch, title, "step", leave=False) as bar:
            for count, step in enumerate(stage.run_epoch(progress.epoch), 1):
                recent.append(step)
                epoch_terms.append(step.terms)
                seen, waited = seen + step.images, waited + step.waited
                bar.update()
                if count % _LOG_EVERY == 0 or count == stage.steps_per_epoch:
                    means = _means([step.terms for step in recent])
                    for term, value in means.items():
                        log.log(progress.steps + count, epoch, "base", f"{name}/{term}", value)
                    log.log(progress.steps + count, epoch, "base", f"{name}/learning_rate", step.learning_rate)
                    bar.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)
                    recent = []
        if not stage.finite():
            raise NonFiniteLossError(f"the end of epoch {progress.epoch + 1}")
    except NonFiniteLossError as error:
        raise UserError(
            f"{name}: the loss is not finite at {error}; the last good checkpoint is {job.last}: "
            "lower optimizer.lr or set clip_norm, and choose another output_dir"
        ) from None
    seconds = time.perf_counter() - started
    steps = progress.steps + stage.steps_per_epoch
    log.log(steps, epoch, "base", f"{name}/images_per_second", seen / seconds)
    log.log(steps, epoch, "base", f"{name}/waiting", waited / seconds)
    means = _means(epoch_terms)
    line = f"{title}: " + ", ".join(f"{term} {value:.4f}" for term, value in means.items())
    processes = tuple(dict.fromkeys([*progress.processes, job.world.size]))
    progress = replace(progress, epoch=progress.epoch + 1, epochs=epoch, steps=steps, processes=processes)
    if job.validation is not None:
        with stage.as_judged():
            progress, remark = _validate(job.validation, stage, name, progress, log)
        line += remark
    idle = f", {waited / seconds:.0%} of the time waiting for them" if waited > 0.1 * seconds else ""
    say(f"{line} ({seen / seconds:.0f} images/s{idle})")
    complaint = stage.objective.complaint(means)
    if complaint:
        warn(f"{name}: {complaint}")
    return progress


def _validate(validation: Validation, stage: Stage, name: str, progress: Progress, log: Log) -> tuple[Any, str]:
    """Score the embedder if it is time to; the progress, and what to tell of it."""
    if progress.epoch % validation.every and progress.epoch < stage.config.epochs:
        return progress, ""
    score = validation.score(stage.embedder, stage.frozen_backbone, stage.objective.method)
    log.log(progress.steps, progress.epochs, "validation", f"{name}/{validation.name}", score)
    better = progress.best is None or score > progress.best
    stage_better = progress.stage_best is None or score > progress.stage_best
    progress = replace(
        progress,
        best=score if better else progress.best,
        stage_best=score if stage_better else progress.stage_best,
        waited=0 if stage_better else progress.waited + 1,
    )
    return progress, f", validation {score:.4f}{' (best)' if better else ''}"


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _save(
    job: Job,
    embedder: Embedder,
    progress: Progress,
    path: Path,
    method: Learner | None = None,
    state: dict[str, np.ndarray] | None = None,
) -> None:
    layer = method.layer if method is not None else None
    checkpoint = Checkpoint(
        embedder.architecture,
        weights_of(embedder),
        describe(layer) if layer is not None else None,
        weights_of(layer) if layer is not None else {},
        state or {},
    )
    _save_as(job, checkpoint, progress, path)


def _save_as(job: Job, checkpoint: Checkpoint, progress: Progress, path: Path) -> None:
    if job.world.main:
        facts = {"progress": asdict(progress), "trained_on": job.facts}
        save_checkpoint(replace(checkpoint, facts=facts), path)
