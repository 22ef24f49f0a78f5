"""Which support set a run uses."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.config_file import parse_config
from ppfsl.data.class_split import ClassSplit, Part
from ppfsl.data.support_set import save_support_set
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError
from ppfsl.results import pictures_digest, run_support_set
from ppfsl.subject import Data


def data(part: tuple[int, ...] = (4, 5, 6)) -> Data:
    labels = np.repeat(np.arange(1, 10), 6)
    table = ImageTable(
        name="folder",
        images=np.zeros((54, 4, 4, 3), dtype=np.uint8),
        labels=labels,
        class_names={label: f"class {label}" for label in range(1, 10)},
        files=tuple(f"{label}/{number}.png" for number, label in enumerate(labels)),
        lists={},
        hash="0",
    )
    split = ClassSplit("thirds", Part((1, 2, 3)), Part((4, 5, 6)), Part((7, 8, 9)))
    return Data(table, split, np.flatnonzero(np.isin(labels, part)))


def config(**support_set: Any) -> Any:
    tree = {"evaluation": {"way": 3, "shot": [1, 2], "query": 3, "support_set": support_set}}
    return parse_config(tree, "test")


def test_way_shot_and_query_default_to_those_of_the_episodes() -> None:
    drawn = run_support_set(config(), data())
    assert (drawn.way, drawn.shot, len(drawn.query)) == (3, 2, 9)
    assert [label for label, _ in drawn.classes] == [4, 5, 6]


def test_named_classes_set_the_way() -> None:
    drawn = run_support_set(config(classes=[6, 4], shot=1, query=5), data())
    assert (drawn.way, drawn.shot, len(drawn.query)) == (2, 1, 10)
    assert [label for label, _ in drawn.classes] == [6, 4]


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    drawn = run_support_set(config(seed=7, shot=1), data())
    save_support_set(drawn, tmp_path / "set.json")
    assert run_support_set(config(file=str(tmp_path / "set.json")), data()) == drawn
    assert run_support_set(config(), data()) != drawn


def test_a_file_of_other_classes_is_refused(tmp_path: Path) -> None:
    save_support_set(run_support_set(config(), data((7, 8, 9))), tmp_path / "set.json")
    with pytest.raises(UserError, match=r"set\.json: 7/\d+\.png is not among the novel images of split thirds"):
        run_support_set(config(file=str(tmp_path / "set.json")), data((4, 5, 6)))


def test_a_file_and_a_way_contradict_each_other() -> None:
    with pytest.raises(UserError, match="leave out the other keys"):
        config(file="set.json", way=3)


def test_pictures_are_known_by_name_and_label_whatever_their_size_and_split() -> None:
    one = data()
    larger = dataclasses.replace(one.table, images=np.ones((54, 8, 8, 3), dtype=np.uint8), hash="1")
    renamed = ClassSplit("other", Part(()), Part((1, 2, 3)), Part((4, 5, 6)))
    assert pictures_digest(one) == pictures_digest(Data(larger, renamed, one.rows))
    assert pictures_digest(one) != pictures_digest(data((4, 5)))
    files = tuple(name.replace("4/", "d/") for name in one.table.files)
    others = dataclasses.replace(one.table, files=files), dataclasses.replace(one.table, labels=one.table.labels + 1)
    assert len({pictures_digest(Data(table, one.split, one.rows)) for table in (one.table, *others)}) == 3


def test_methods_get_the_vectors_that_they_work_on() -> None:
    from ppfsl.backbones.embedder import Architecture, build_embedder
    from ppfsl.methods.class_mean import ClassMean
    from ppfsl.methods.prototypical import Prototypical
    from ppfsl.subject import Subject, Trained, gather_for

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
    from ppfsl.backbones.embedder import Architecture, build_embedder
    from ppfsl.config import FinetuneConfig
    from ppfsl.methods.finetune import FinetuneAll
    from ppfsl.subject import Subject, Trained, gather_for

    found = data()
    pixels = np.random.default_rng(0).integers(0, 256, (54, 20, 20, 3), dtype=np.uint8)
    found = dataclasses.replace(found, table=dataclasses.replace(found.table, images=pixels))
    embedder = build_embedder(Architecture("conv4", 16, options=(("width", 4),)), 0)
    subject = Subject(Trained(embedder, None, "none", ()), np.zeros((18, 4), dtype=np.float32))
    method = FinetuneAll(FinetuneConfig(name="finetune", trainable="all"), embedder)
    rows = found.rows[:6].reshape(2, 3)
    gathered = gather_for(method, found, subject)(rows)
    assert np.array_equal(gathered, pixels[rows][:, :, 2:18, 2:18].transpose(0, 1, 4, 2, 3))
