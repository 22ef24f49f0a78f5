"""What methods get of the evaluated images."""

import dataclasses

import numpy as np

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.config import FinetuneConfig
from ppfsl.methods.class_mean import ClassMean
from ppfsl.methods.finetune import FinetuneAll
from ppfsl.methods.prototypical import Prototypical
from ppfsl.subject import Subject, Trained, gather_for
from tests.thirds import data


def test_methods_get_the_vectors_that_they_work_on() -> None:
    found = data()
    embedder = build_embedder(Architecture("conv4", 16, options=(("width", 4),)), 0)
    projected = np.random.default_rng(0).normal(2, 3, (18, 4)).astype(np.float32)
    subject = Subject(Trained(embedder, None, "none", ()), projected)
    places = np.asarray([[3, 0, 17], [5, 3, 1]])
    rows = found.rows[places]
    assert np.array_equal(gather_for(Prototypical(), found, subject)(rows), projected[places])
    of_length_one = gather_for(ClassMean(), found, subject)(rows)
    lengths = np.linalg.norm(projected[places], axis=-1, keepdims=True)
    np.testing.assert_allclose(of_length_one, projected[places] / lengths, rtol=1e-5)


def test_methods_that_take_images_get_them_cropped_to_the_embedders_size() -> None:
    found = data()
    pixels = np.random.default_rng(0).integers(0, 256, (54, 20, 20, 3), dtype=np.uint8)
    found = dataclasses.replace(found, table=dataclasses.replace(found.table, images=pixels))
    embedder = build_embedder(Architecture("conv4", 16, options=(("width", 4),)), 0)
    subject = Subject(Trained(embedder, None, "none", ()), np.zeros((18, 4), dtype=np.float32))
    method = FinetuneAll(FinetuneConfig(name="finetune", trainable="all"), embedder)
    rows = found.rows[:6].reshape(2, 3)
    gathered = gather_for(method, found, subject)(rows)
    assert np.array_equal(gathered, pixels[rows][:, :, 2:18, 2:18].transpose(0, 1, 4, 2, 3))
