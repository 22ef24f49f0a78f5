"""One stage of training: an objective, what it may change, its optimizer."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import paddle

from ppfsl.backbones.embedder import Embedder
from ppfsl.backbones.weights import load_strictly, weights_of
from ppfsl.config import StageConfig
from ppfsl.config.objectives import augments_tasks
from ppfsl.data.augmentation import augment, change_classes, turn_some
from ppfsl.data.table import ImageTable
from ppfsl.distributed import ALONE, World
from ppfsl.errors import UserError
from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
from ppfsl.optimizers import build_optimizer, learning_rate, load_state_by_position, state_by_position
from ppfsl.randomness import generator
from ppfsl.training.objectives.base import batch_classes
from ppfsl.training.objectives.build import build_objective
from ppfsl.training.objectives.cross_entropy import CrossEntropy
from ppfsl.training.objectives.tasks import Tasks
from ppfsl.training.precision import Precision
from ppfsl.training.prefetch import Prefetched

_HEAD, _OPTIMIZER, _PRECISION, _START = "head.", "optimizer.", "precision.", "start."


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        terms: the loss and its parts.
        learning_rate: that was applied.
        images: how many it saw.
        waited: seconds that it waited for them.
    """

    terms: dict[str, float]
    learning_rate: float
    images: int
    waited: float


@dataclass(frozen=True)
class _Batch:
    """What a step learns from.

    Attributes:
        places: int64 [N], of the images among the base images.
        inputs: float32, augmented pixels [N, C, S, S], or the frozen backbone's features [N, B].
        chance: the step's random numbers, where augmentation has left them.
        quarters: int64 [N], how images were turned for a loss that asks for it; None: not at all.
    """

    places: np.ndarray
    inputs: np.ndarray
    chance: np.random.Generator
    quarters: np.ndarray | None = None


def base_labels(table: ImageTable, rows: np.ndarray) -> np.ndarray:
    """The base images' classes, numbered 0..classes - 1 in the order of their labels: int64 [N]."""
    return np.unique(table.labels[rows], return_inverse=True)[1].astype(np.int64)


class Stage:
    """A stage of training, ready to run its epochs.

    Args:
        config: objective, optimizer, schedule, augmentation, what is trainable.
        embedder: what is trained, in place.
        table: where the images are.
        rows: int64 [N], the base part's images.
        seed: the stage's own.
        world: the processes that train together, each on batches of its own.
        cache: keeps what a frozen backbone makes of the images.
        mixed: whether networks run in 16 bits, on a GPU (`ppfsl.training.precision`).

    Raises:
        UserError: when the base images cannot fill the objective's batches.
    """

    def __init__(
        self,
        config: StageConfig,
        embedder: Embedder,
        table: ImageTable,
        rows: np.ndarray,
        seed: int,
        world: World = ALONE,
        cache: EmbeddingCache = NO_CACHE,
        mixed: bool = False,
    ) -> None:
        self.config, self.embedder, self._table, self._rows, self._seed = config, embedder, table, rows, seed
        self._world, self._precision = world, Precision(mixed)
        self._labels = base_labels(table, rows)
        self.objective = build_objective(config.objective, self._labels, embedder, seed)
        self.steps_per_epoch = config.steps_per_epoch or max(self.objective.steps // world.size, 1)
        self.frozen_backbone = config.trainable in ("projection", "head")
        self.parameters = self._thaw()
        self._start = weights_of(embedder.backbone) if config.keep_start else {}
        head = None if self.objective.head is None else self.objective.head.parameters()
        decaying = head if config.decayed == "head" else None
        self._optimizer = build_optimizer(config.optimizer, self.parameters, config.clip_norm, decaying)
        # A frozen backbone without augmentation gives an image the same features each time: compute them once.
        self._features: np.ndarray | None = None
        if self.frozen_backbone and not (config.augmentation.active or augments_tasks(config.objective)):
            self._features = cache.features(embedder, table, rows, "base features", world)

    def run_epoch(self, epoch: int) -> Iterator[Step]:
        """Train for one epoch, one optimizer step at a time; epochs count from 0."""
        self._set_modes()
        total = self.config.epochs * self.steps_per_epoch
        with Prefetched(self._batches(epoch)) as batches:
            waited = 0.0
            for step, batch in enumerate(batches):
                value, terms = self._accumulate(batch, epoch)
                terms = self._world.average_gradients(self.parameters, {"loss": value, **terms})
                if not np.isfinite(terms["loss"]):
                    raise NonFiniteLossError(f"step {step + 1} of epoch {epoch + 1}")
                place = epoch * self.steps_per_epoch + step
                rate = learning_rate(self.config.schedule, self.config.optimizer.lr, place, total, self.steps_per_epoch)
                self._optimizer.set_lr(rate)
                self._precision.step(self._optimizer, self.parameters)
                self._optimizer.clear_grad()
                yield Step(terms, rate, len(batch.places) * self._world.size, batches.waited - waited)
                waited = batches.waited
        self._world.average_weights(
            [self.embedder, *([self.objective.head] if self.objective.head is not None else [])]
        )

    def _batches(self, epoch: int) -> Iterator[_Batch]:
        """An epoch's batches of this process, in numpy alone: another thread makes them."""
        world = self._world
        for number, places in enumerate(self.objective.batches(epoch, self.steps_per_epoch * world.size)):
            if number % world.size != world.rank:
                continue
            chance = generator(self._seed, "batch", epoch, number)
            inputs = self._pixels(places, chance) if self._features is None else self._features[places]
            quarters = None
            if isinstance(self.objective, CrossEntropy) and self.objective.turns:
                inputs, quarters = turn_some(inputs, chance)
            yield _Batch(places, inputs, chance, quarters)

    def _accumulate(self, batch: _Batch, epoch: int) -> tuple[float, dict[str, float]]:
        """Add a batch's gradients to the parameters'; its loss and terms."""
        objective, inputs = self.objective, paddle.to_tensor(batch.inputs)
        if isinstance(objective, Tasks):
            return objective.accumulate(inputs, epoch, batch.chance)
        with self._precision.network():
            projected = self.embedder.project(inputs if self._features is not None else self._backbone_output(inputs))
        if projected.dtype != paddle.float32:
            projected = projected.astype("float32")
        labels = paddle.to_tensor(self._labels[batch.places])
        if isinstance(objective, CrossEntropy) and batch.quarters is not None:
            loss, terms = objective.loss(projected, labels, batch.chance, paddle.to_tensor(batch.quarters))
        else:
            loss, terms = objective.loss(projected, labels, batch.chance)
        self._precision.backward(loss)
        return loss.item(), terms

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint needs beside the embedder's weights to go on after an epoch."""
        state = {_OPTIMIZER + name: value for name, value in self._optimizer_state().items()}
        if self.objective.head is not None:
            state |= {_HEAD + name: value.numpy() for name, value in self.objective.head.state_dict().items()}
        state |= {_START + name: value for name, value in self._start.items()}
        return state | {_PRECISION + name: value for name, value in self._precision.state().items()}

    @contextlib.contextmanager
    def as_judged(self) -> Iterator[None]:
        """Meanwhile the embedder has the weights that it is judged by: `keep_start` mixes in its first ones."""
        if not self._start:
            yield
            return
        backbone, share = self.embedder.backbone, self.config.keep_start
        trained = weights_of(backbone)
        mixed = {name: (1 - share) * value + share * self._start[name] for name, value in trained.items()}
        load_strictly(backbone, mixed, "blended weights")
        try:
            yield
        finally:
            load_strictly(backbone, trained, "trained weights")

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Undo `state`."""
        if self.objective.head is not None:
            for name, tensor in self.objective.head.state_dict().items():
                tensor.set_value(state[_HEAD + name])
        self._start = _below(_START, state)
        load_state_by_position(self._optimizer, self.parameters, _below(_OPTIMIZER, state))
        self._precision.load_state(_below(_PRECISION, state))

    def finite(self) -> bool:
        """Whether every parameter is a finite number; Paddle counts the statistics of batch norms among them."""
        return all(bool(paddle.isfinite(parameter).all()) for parameter in self.parameters)

    def _optimizer_state(self) -> dict[str, np.ndarray]:
        return state_by_position(self._optimizer, self.parameters)

    def _backbone_output(self, pixels: paddle.Tensor) -> paddle.Tensor:
        if self.frozen_backbone:
            with paddle.no_grad():
                return self.embedder.features(pixels)
        return self.embedder.features(pixels)

    def _pixels(self, places: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Base images, augmented: float32 [N, C, S, S], 0..255."""
        objective = self.config.objective
        size = self.config.image_size or self.embedder.architecture.image_size
        images = self._table.images[self._rows[places]]
        if augments_tasks(objective):
            images = change_classes(images, batch_classes(objective), objective.task_augmentation, chance)
        return augment(images, size, self.config.augmentation, chance)

    def _trained_layers(self) -> list[paddle.nn.Layer]:
        """The embedder's layers that learn in this stage."""
        embedder = self.embedder
        projection = [] if embedder.projection is None else [embedder.projection]
        return {
            "all": [embedder],
            "last_block": [*embedder.backbone.last_block(), *projection],
            "projection": projection,
            "head": [],
        }[self.config.trainable]

    def _thaw(self) -> list[paddle.Tensor]:
        """Freeze all parameters but those that learn here; return these, in a fixed order."""
        for parameter in self.embedder.parameters():
            parameter.stop_gradient = True
        layers = self._trained_layers() + ([self.objective.head] if self.objective.head is not None else [])
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        for parameter in parameters:
            parameter.stop_gradient = False
        return parameters

    def _set_modes(self) -> None:
        """Training mode where something learns, evaluation mode elsewhere: frozen batch norm keeps its statistics."""
        self.embedder.eval()
        for layer in self._trained_layers():
            layer.train()
        if self.objective.head is not None:
            self.objective.head.train()


def _below(prefix: str, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite; the text says at which step."""
