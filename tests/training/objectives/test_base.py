"""Batches of some classes with some images each, and the classes of batches of tasks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppfsl.config.objectives import ClassesPerBatch, MatchingConfig, MemoryAugmentedConfig
from ppfsl.errors import UserError
from ppfsl.randomness import generator
from ppfsl.training.objectives.base import ClassBatches, batch_classes, classes_with
from ppfsl.training.objectives.episodic import Episodic
from ppfsl.training.objectives.sequences import Sequences

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 4, 9, 5, 4, 8)))


def batches_of(classes: int = 3, images: int = 4, labels: np.ndarray = LABELS, seed: int = 0) -> ClassBatches:
    return ClassBatches(
        ClassesPerBatch(classes_per_batch=classes, images_per_class=images), labels, seed, "our batches"
    )


@settings(deadline=None, max_examples=50)
@given(classes=st.integers(2, 6), images=st.integers(2, 4), epoch=st.integers(0, 9))
def test_batches_are_distinct_images_class_by_class(classes: int, images: int, epoch: int) -> None:
    batches = batches_of(classes, images)
    assert batches.steps == max(len(LABELS) // (classes * images), 1)
    for batch in batches.batches(epoch, 3):
        assert len(set(batch.tolist())) == len(batch) == classes * images
        labels = LABELS[batch].reshape(classes, images)
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0].tolist())) == classes


def test_classes_that_are_too_small_stay_out() -> None:
    for batch in batches_of(images=7).batches(0, 10):
        assert set(LABELS[batch].tolist()) == {0, 2, 5}


def test_every_class_and_every_image_is_drawn() -> None:
    seen = np.concatenate(list(batches_of().batches(0, 100)))
    assert set(seen.tolist()) == set(range(len(LABELS)))
    counts = np.bincount(LABELS[seen], minlength=6)
    assert np.abs(counts / 400 - 0.5).max() < 0.25  # of the 100 batches, each with half of the classes; 5 deviations


def test_classes_with_so_many_images() -> None:
    found = classes_with(7, LABELS, "our batches")
    assert set(found) == {0, 2, 5}
    for label, rows in found.items():
        assert rows.tolist() == np.flatnonzero(label == LABELS).tolist()


def test_base_classes_that_cannot_fill_batches_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        batches_of(labels=np.asarray([0, 0, 0, 0, 1]))
    assert str(caught.value) == "our batches need two base classes with 4 images or more; add images or classes"
    with pytest.raises(UserError) as caught:
        batches_of(classes=4, images=7)
    assert str(caught.value) == "classes_per_batch is 4, but only 3 base classes have 7 images; lower it"


def test_classes_of_batches_are_those_of_their_images() -> None:
    episodes = MatchingConfig(name="matching", way=3, shot=2, query=1, episodes_per_batch=2)
    assert batch_classes(episodes).tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2, 3, 3, 4, 4, 5, 5, 3, 4, 5]
    sequences = MemoryAugmentedConfig(name="memory_augmented", way=3, instances=4, episodes_per_batch=2)
    assert batch_classes(sequences).tolist() == np.repeat(range(6), 4).tolist()
    for batch, classes in (
        (next(Episodic(episodes, LABELS, (8, 1, 1), 0).batches(0, 1)), batch_classes(episodes)),
        (next(Sequences(sequences, LABELS, 8, 0).batches(0, 1)), batch_classes(sequences)),
    ):
        assert len(batch) == len(classes)
        for number in range(6):
            assert len(set(LABELS[batch][classes == number].tolist())) == 1
