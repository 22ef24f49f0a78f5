"""From the `data` keys of a configuration to a table and a split."""

import json
from pathlib import Path

import numpy as np
import pytest

from ppfsl.config import DataConfig, SyntheticConfig
from ppfsl.data import datasets
from ppfsl.data.datasets import check_split, open_split, open_table
from ppfsl.data.source import Source
from ppfsl.data.table import ImageTable
from ppfsl.errors import UserError


def test_a_folder_becomes_a_table_of_the_size_and_channels_asked_for(photographs: Path, tmp_path: Path) -> None:
    config = DataConfig(
        name="folder", folder=str(photographs), image_size=16, cached_size=18, channels=1, cache_dir=str(tmp_path)
    )
    table = open_table(config)
    assert table.images.shape == (144, 18, 18, 1)
    assert (table.name, table.labels.tolist()) == ("folder", [label for label in range(1, 13) for _ in range(12)])
    assert table.class_names[12] == "class11"
    assert table.skipped == ()
    assert any(tmp_path.iterdir()), "the cache is elsewhere"


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_relative_folder_lies_below_the_root(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    monkeypatch.setenv("PPFSL_DATA", str(photographs.parent if by_variable else tmp_path))
    root = None if by_variable else str(photographs.parent)
    config = DataConfig(name="folder", folder=photographs.name, root=root, image_size=16, cache_dir=str(tmp_path))
    assert len(open_table(config)) == 144


@pytest.mark.parametrize("root", [None, "given"])
def test_a_relative_folder_that_is_not_there_is_said_to_be_looked_for_below_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str | None
) -> None:
    monkeypatch.setenv("PPFSL_DATA", str(tmp_path))
    with pytest.raises(UserError) as caught:
        open_table(DataConfig(name="folder", folder="a/b", root=root))
    assert str(caught.value) == (
        f"{root or tmp_path}/a/b does not exist: data.folder counts from data.root, else from $PPFSL_DATA; set "
        "data.root (to . for the working directory), or give the whole path"
    )


@pytest.mark.parametrize("below", [True, False])
def test_a_folder_whose_name_is_too_long_is_named(tmp_path: Path, below: bool) -> None:
    folder = tmp_path / ("n" * 300)
    with pytest.raises(UserError) as caught:
        open_table(DataConfig(name="folder", folder=folder.name if below else str(folder), root=str(tmp_path)))
    assert str(caught.value) == f"{folder} cannot be looked up: File name too long; mend that, or name another path"


def test_an_absolute_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"/nowhere does not exist; give a folder that holds one folder of images per"):
        open_table(DataConfig(name="folder", folder=str(tmp_path / "nowhere")))


def test_the_cache_lies_where_the_variable_says(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PPFSL_CACHE", str(tmp_path / "by variable"))
    open_table(DataConfig(name="folder", folder=str(photographs), image_size=16))
    assert list((tmp_path / "by variable").iterdir())


def test_corrupt_images_are_an_error_or_left_out_aloud(
    own_photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (3, 4):
        (own_photographs / "class02" / f"0{number}.png").write_bytes(b"no picture")
    common = {"name": "folder", "folder": str(own_photographs), "image_size": 16, "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(UserError, match=r"class02/0[34]\.png"):
        open_table(DataConfig(**common))
    for _ in range(2):  # decoded, then from the cache
        table = open_table(DataConfig(**common, on_corrupt="skip"))
        assert len(table) == 142
        assert capsys.readouterr().err == ("warning: 2 corrupt images of folder are left out, class02/03.png for one\n")


def test_flowers_are_looked_for_below_the_root(tmp_path: Path) -> None:
    config = DataConfig(name="flowers102", split="metadataset", root=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(UserError) as caught:
        open_table(config)
    assert str(tmp_path / "flowers102" / "imagelabels.mat") in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_omniglot_is_looked_for_below_the_root(tmp_path: Path) -> None:
    config = DataConfig(name="omniglot", split="vinyals", root=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(UserError) as caught:
        open_table(config)
    assert str(tmp_path / "omniglot" / "images_background.zip") in str(caught.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("rotations", [False, True])
def test_omniglot_is_read_with_the_rotations_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotations: bool
) -> None:
    asked: list[tuple[Path, bool]] = []
    monkeypatch.setattr(datasets, "omniglot_source", lambda *arguments: asked.append(arguments))
    datasets._open_source(DataConfig(name="omniglot", split="vinyals", root=str(tmp_path), rotations=rotations))
    assert asked == [(tmp_path / "omniglot", rotations)]


def test_the_drawn_data_set_has_the_size_asked_for(tmp_path: Path) -> None:
    def drawn(seed: int) -> ImageTable:
        synthetic = SyntheticConfig(classes=10, images_per_class=2, seed=seed)
        return open_table(DataConfig(synthetic=synthetic, image_size=20, cached_size=24, cache_dir=str(tmp_path)))

    table = drawn(0)
    assert table.images.shape == (20, 24, 24, 3)
    assert len(set(table.labels.tolist())) == 10
    assert drawn(0).hash == table.hash
    assert drawn(1).hash != table.hash


def test_classes_are_divided_by_ratio_and_seed(photographs: Path, tmp_path: Path) -> None:
    config = DataConfig(
        name="folder", folder=str(photographs), image_size=16, cache_dir=str(tmp_path), split_ratio=(0.5, 0.25, 0.25)
    )
    table = open_table(config)
    split = open_split(config, table)
    parts = [split.base.classes, split.validation.classes, split.novel.classes]
    assert [len(part) for part in parts] == [6, 3, 3]
    assert sorted(sum(parts, ())) == list(range(1, 13))
    assert open_split(config, table) == split
    assert open_split(config.model_copy(update={"split_seed": 1}), table) != split


def test_a_named_split_is_loaded(photographs: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"base": [1, 2], "validation": [], "novel": [3, 4]}), encoding="utf-8")
    config = DataConfig(name="folder", folder=str(photographs), image_size=16, split=str(path), cache_dir=str(tmp_path))
    split = open_split(config, open_table(config))
    assert (split.name, split.base.classes, split.novel.classes) == ("own", (1, 2), (3, 4))
    with pytest.raises(UserError, match=r"data\.split: folder has no split 'metadataset'"):
        open_split(config.model_copy(update={"split": "metadataset"}), open_table(config))


def test_a_named_split_is_checked_without_a_table(tmp_path: Path) -> None:
    check_split(DataConfig(name="flowers102", split="metadataset"))
    check_split(DataConfig(name="folder", folder="absent"))
    with pytest.raises(UserError, match=r"omniglot has no split 'vinylas'; known: vinyals, vinyals_trainval"):
        check_split(DataConfig(name="omniglot", split="vinylas"))
    with pytest.raises(UserError, match=r"there is no file .*absent\.json"):
        check_split(DataConfig(name="folder", folder="absent", split=str(tmp_path / "absent.json")))


def test_shipped_splits_of_the_flowers_are_found() -> None:
    labels = np.arange(1, 103)
    table = type("Table", (), {"labels": labels})
    for name, counts in (("metadataset", (71, 15, 16)), ("fsl_ssl", (51, 26, 25))):
        split = open_split(DataConfig(name="flowers102", split=name), table)  # type: ignore[arg-type]
        assert tuple(len(split.part(part).classes) for part in ("base", "validation", "novel")) == counts


def test_upright_omniglot_has_the_upright_classes_of_its_split(tmp_path: Path) -> None:
    table = type("Table", (), {"labels": np.arange(6492)})

    def opened(rotations: bool, split: str = "vinyals") -> list[tuple[int, ...]]:
        config = DataConfig(name="omniglot", split=split, rotations=rotations)
        found = open_split(config, table)  # type: ignore[arg-type]
        return [found.base.classes, found.validation.classes, found.novel.classes]

    turned, upright = opened(rotations=True), opened(rotations=False)
    assert [len(part) for part in turned] == [4112, 688, 1692]
    assert [len(part) for part in upright] == [1028, 172, 423]
    assert sorted(sum(upright, ())) == list(range(1623))
    for part, turned_part in zip(upright, turned, strict=True):
        assert set(part) < set(turned_part)

    own = tmp_path / "own.json"
    novel = {"classes": [4, 1627, 6500], "list": "evaluation"}
    own.write_text(json.dumps({"base": [0, 1623], "validation": [], "novel": novel}), encoding="utf-8")
    assert opened(rotations=True, split=str(own)) == [(0, 1623), (), (4, 1627, 6500)]
    # A label that Omniglot does not have at all stays, and is an error where its images are asked for.
    assert opened(rotations=False, split=str(own)) == [(0,), (), (4, 6500)]
    kept = open_split(DataConfig(name="omniglot", split=str(own), rotations=False), table)  # type: ignore[arg-type]
    assert (kept.name, kept.novel.list) == ("own", "evaluation")


def test_a_source_is_read_through_its_reader(photographs: Path) -> None:
    source = datasets._open_source(DataConfig(name="folder", folder=str(photographs)))
    assert isinstance(source, Source)
    assert source.files[0] == "class00/00.png"
