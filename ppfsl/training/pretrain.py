"""Pretraining: the chain of stages, with validation, best and last checkpoints, early stopping and resume."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from ppfsl.backbones.embedder import Embedder
from ppfsl.backbones.weights import load_strictly, weights_of
from ppfsl.config.objectives import judged_alike
from ppfsl.errors import UserError
from ppfsl.methods.base import Learner
from ppfsl.methods.layers import describe
from ppfsl.progress import progress_bar, say, warn
from ppfsl.randomness import generator
from ppfsl.reporting.metrics import MetricLog, NoMetricLog
from ppfsl.training.checkpoint import Checkpoint, load_checkpoint, method_layer, save_checkpoint
from ppfsl.training.job import Job, Progress, last_checkpoint, stage_name
from ppfsl.training.stage import NonFiniteLossError, Stage, Step
from ppfsl.training.validation import Validation

_LOG_EVERY = 10  # optimizer steps

Log = MetricLog | NoMetricLog


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
    checkpoint = job.world.on_main(lambda: last_checkpoint(job))
    if checkpoint is None:
        progress = Progress()
        _save(job, embedder, progress, job.best)
        _save(job, embedder, progress, job.last)  # after `best`, so that where there is a last there is a best
        return progress, {}
    load_strictly(embedder, checkpoint.weights, str(job.last))
    progress = Progress(**checkpoint.facts["progress"])
    progress = replace(progress, processes=tuple(progress.processes))
    if progress.epochs > 0 and progress.stage < len(job.stages):
        done = f"{progress.epoch} epoch{'s' * (progress.epoch != 1)}"
        say(f"resuming {stage_name(job.stages, progress.stage)} after {done}")
    return progress, dict(checkpoint.training)


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
            f"lower pretrain.{progress.stage}.optimizer.lr or set pretrain.{progress.stage}.clip_norm, and choose "
            "another output_dir"
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
