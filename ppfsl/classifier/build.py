"""From a few pictures per class to a classifier."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

from ppfsl.backbones.embedder import Embedder, build_embedder
from ppfsl.backbones.weights import load_pretrained
from ppfsl.classifier.model import THUMBNAIL, Classifier, Rejection
from ppfsl.classifier.pictures import find_support, read_support
from ppfsl.classifier.rejection import by_support_set, by_validation_classes, leave_one_out
from ppfsl.config import Adaptation, ClassMeanConfig, Config, FinetuneConfig
from ppfsl.config_file import load_config
from ppfsl.data.augmentation import center_crop
from ppfsl.data.class_split import part_images
from ppfsl.data.decode import thumbnails_of
from ppfsl.distances import normalized
from ppfsl.errors import UserError
from ppfsl.files import kind_of
from ppfsl.inference.cache import EmbeddingCache
from ppfsl.inference.engine import predictor, to_pixels
from ppfsl.inference.finish import planned, uncentered
from ppfsl.methods.base import Support
from ppfsl.methods.build import build_method
from ppfsl.onednn import operators
from ppfsl.pipeline import architecture_of, embedding_cache, open_data
from ppfsl.progress import progress_bar, warn
from ppfsl.runtime import choose_device
from ppfsl.training.checkpoint import checkpoint_file, embedder_of, load_checkpoint

_BATCH = 64  # images


@dataclass(frozen=True)
class Validation:
    """Images of classes that neither training nor the classifier has seen, which choose the rejection threshold.

    Attributes:
        embeddings: float32 [N, D], of length one.
        labels: int64 [N].
        name: in words.
    """

    embeddings: np.ndarray
    labels: np.ndarray
    name: str


@dataclass(frozen=True)
class Source:
    """Where a classifier's embedder comes from.

    Attributes:
        embedder: frozen, in evaluation mode.
        resize: pixels of the shorter side of pictures.
        origin: in words.
        validation: of the run that the embedder is from; None: it is of no run, or that run has none.
    """

    embedder: Embedder
    resize: int
    origin: str
    validation: Validation | None


@dataclass(frozen=True)
class SupportSet:
    """Pictures that a classifier is built from, embedded.

    Attributes:
        class_names: [K].
        labels: int64 [S], 0..K - 1, every class at least once.
        embeddings: float32 [S, D], of length one.
        thumbnails: uint8 [S, THUMBNAIL, THUMBNAIL, C].
        files: [S], their names.
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    embeddings: np.ndarray
    thumbnails: np.ndarray
    files: tuple[str, ...]


@dataclass(frozen=True)
class Built:
    """A classifier and how it does on its own support set.

    Attributes:
        classifier: the classifier.
        left_out: how many support pictures were asked with themselves left out of the class means.
        right: how many of these got their own class.
    """

    classifier: Classifier
    left_out: int
    right: int


def build_classifier(config: Config, support: Path, checkpoint: Path | None = None) -> Built:
    """Build a classifier from pictures.

    Args:
        config: its first adaptation makes the head (`class_mean`, or `finetune` of a head); without a checkpoint, its
            `backbone` and `data.image_size` make the embedder.
        support: a folder per class, or a list (`ppfsl.classifier.pictures`).
        checkpoint: a run's, or the run's folder.

    Raises:
        UserError: for every mistake that the user can mend.
    """
    adaptation = linear_adaptation(config.adaptations[0])
    pictures = find_support(support)
    choose_device(config.device)
    with operators(config.onednn):
        source = open_source(config, checkpoint)
        architecture = source.embedder.architecture
        squares = read_support(pictures, source.resize, architecture.channels)
        images = center_crop(squares, architecture.image_size)
        given = SupportSet(
            class_names=pictures.class_names,
            labels=pictures.labels,
            embeddings=_embedded(source.embedder, images, embedding_cache(config)),
            thumbnails=thumbnails_of(squares, THUMBNAIL),
            files=tuple(_shown(file, support) for file in pictures.files),
        )
        return classifier_from(source, adaptation, given, config.seed)


def open_source(config: Config, checkpoint: Path | None) -> Source:
    """The embedder of a checkpoint, or without one the pretrained one that a configuration describes.

    Raises:
        UserError: when there is none.
    """
    if checkpoint is None:
        return _from_weights(config)
    source = from_checkpoint(checkpoint)
    kept = source.embedder.architecture
    if config.embedding.active and kept != planned(kept, config.embedding):
        raise UserError(
            f"{checkpoint} holds an embedder that was finished otherwise than the keys of embedding say; set them in "
            "its run and run that again, or leave them out"
        )
    return source


def classifier_from(
    source: Source, adaptation: ClassMeanConfig | FinetuneConfig, given: SupportSet, seed: int = 0
) -> Built:
    """Build a classifier from pictures that have been embedded; `seed` is that of a random initialisation."""
    embeddings, labels = given.embeddings, given.labels
    weight, bias = _head(adaptation, source.embedder, seed, embeddings, labels)
    classifier = Classifier(
        embedder=source.embedder,
        resize=source.resize,
        class_names=given.class_names,
        weight=weight,
        bias=bias,
        embeddings=embeddings,
        labels=labels,
        thumbnails=given.thumbnails,
        files=given.files,
        rejection=_rejection(source, embeddings, labels),
        adaptation=adaptation.label or adaptation.name,
        origin=source.origin,
    )
    cosines, _ = leave_one_out(embeddings, labels)
    several = np.bincount(labels)[labels] > 1
    right = int((cosines.argmax(1) == labels[several]).sum()) if len(cosines) else 0
    return Built(classifier, len(cosines), right)


def linear_adaptation(adaptation: Adaptation) -> ClassMeanConfig | FinetuneConfig:
    """The adaptation, if its classifier is a matrix on embeddings.

    Raises:
        UserError: when it is not.
    """
    if isinstance(adaptation, ClassMeanConfig):
        return adaptation
    if isinstance(adaptation, FinetuneConfig):
        if adaptation.trainable == "head" and adaptation.entropy != "query":
            return adaptation
        key = "trainable: all" if adaptation.trainable == "all" else "entropy: query"
        raise UserError(f"a classifier that is kept cannot be made with {key}; leave that out")
    raise UserError(f"a classifier that is kept is made by class_mean or finetune, not by {adaptation.name}")


def _embedded(embedder: Embedder, images: np.ndarray, cache: EmbeddingCache) -> np.ndarray:
    """Embeddings of support pictures, uint8 [S, size, size, C]: float32 [S, D], of length one."""
    run = cache.remembering(embedder, lambda: predictor(embedder, len(images)))
    parts = []
    with progress_bar(len(images), "embedding the support set", "img") as bar:
        for start in range(0, len(images), _BATCH):
            parts.append(run(to_pixels(images[start : start + _BATCH])))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


def _head(
    adaptation: ClassMeanConfig | FinetuneConfig,
    embedder: Embedder,
    seed: int,
    embeddings: np.ndarray,
    labels: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The classifier as weight [D, K] and bias [K].

    It is affine in embeddings of length one, so that its answers to the zero vector and to the axes are all of it.
    """
    method = build_method(adaptation, embedder, seed)
    way = int(labels.max()) + 1
    support = Support(paddle.to_tensor(embeddings[None]), paddle.to_tensor(labels), way, np.zeros(1, dtype=np.int64))
    classify = method.adapt(support)
    dim = embeddings.shape[1]
    asked = np.concatenate([np.zeros((1, dim)), np.eye(dim)]).astype(np.float32)
    with paddle.no_grad():
        answers = classify(paddle.to_tensor(asked[None])).numpy()[0]
    return answers[1:] - answers[0], answers[0]


def _from_weights(config: Config) -> Source:
    if config.backbone.pretrained == "none":
        raise UserError(
            "a classifier needs trained weights: name a --checkpoint, or set backbone.pretrained to imagenet"
        )
    embedder = build_embedder(architecture_of(config), config.seed)
    if embedder.projection is not None:
        raise UserError("backbone.projection is drawn at random where nothing is trained; set it to none")
    if config.embedding.center != "none" or config.embedding.whitening is not None:
        key = "center" if config.embedding.center != "none" else "whitening"
        raise UserError(
            f"embedding.{key} needs the base classes of a run; set it there and name that run as --checkpoint, or "
            "leave it out"
        )
    load_pretrained(embedder, config.backbone.pretrained)
    return Source(
        uncentered(embedder, config.embedding),
        config.data.table_size,
        f"{config.backbone.name}, weights {config.backbone.pretrained}",
        None,
    )


def from_checkpoint(path: Path, validation: bool = True) -> Source:
    """The embedder of a checkpoint, or of the best one in a run's folder.

    Args:
        path: the file or the folder.
        validation: whether the run's validation classes are wanted.

    Raises:
        UserError: when there is none.
    """
    file = checkpoint_file(path)
    checkpoint = load_checkpoint(file)
    embedder = embedder_of(checkpoint, str(file))
    settings = file.parent.parent / "config.yaml"
    run = load_config(settings) if file.parent.name == "checkpoints" and kind_of(settings) else None
    # What the run resized pictures to stands in the checkpoint itself, which may have left its folder.
    resize = checkpoint.facts.get("trained_on", {}).get("data.cached_size")
    others = _validation(embedder, run) if run is not None and validation else None
    return Source(embedder, resize or embedder.architecture.image_size, str(path), others)


def _validation(embedder: Embedder, run: Config) -> Validation | None:
    """The validation classes of a run, where its data can be had."""
    try:
        data = open_data(run)
        if not data.split.validation.classes:
            return None
        rows = part_images(data.table, data.split, "validation")
        projected = embedding_cache(run).projected(embedder, data.table, rows, "embedding validation images")
    except UserError as error:
        warn(f"the rejection threshold is not chosen on validation classes: {error}")
        return None
    name = f"validation classes of {data.table.name}, split {data.split.name}"
    return Validation(normalized(projected), data.table.labels[rows], name)


def _rejection(source: Source, embeddings: np.ndarray, labels: np.ndarray) -> Rejection | None:
    """The threshold by validation classes where they can be had, else by the support set."""
    way, shot = int(labels.max()) + 1, max(int(np.median(np.bincount(labels))), 1)
    others, chosen = source.validation, None
    if others is not None:
        chosen = by_validation_classes(others.embeddings, others.labels, way, shot, others.name)
    return by_support_set(embeddings, labels) if chosen is None else chosen


def _shown(file: Path, support: Path) -> str:
    """A support picture's name, below its folder where that is possible."""
    root = support if kind_of(support) == "folder" else support.parent
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
