"""The reader of the official flower files, on a miniature of them with the official counts, and on the real ones."""

import gzip
import io
import json
import os
import shlex
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from ppfsl.data import flowers102
from ppfsl.data.flowers102 import CLASSES, IMAGES, OFFICIAL_FILES, class_names, flowers102_source
from ppfsl.data.table import load_table
from ppfsl.errors import UserError
from tests.real import real_folder

REMEDY = "python tools/prepare_data.py flowers102"
LABELS = np.arange(IMAGES) % CLASSES + 1
IDS = np.random.default_rng(0).permutation(IMAGES) + 1
LISTS = {"trnid": IDS[:1020], "valid": IDS[1020:2040], "tstid": IDS[2040:]}


def photograph(row: int, mark: int = 0) -> bytes:
    """One pixel that says which image it is; files are told apart by what they hold, not by their names."""
    return b"P6 1 1 255\n" + bytes((row // 256, row % 256, mark))


def name(row: int) -> str:
    return f"jpg/image_{row + 1:05d}.jpg"


def pack(path: Path, members: Iterable[tuple[tarfile.TarInfo | str, bytes]]) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_mats(root: Path) -> None:
    savemat(root / "imagelabels.mat", {"labels": LABELS.astype(np.uint8)})
    savemat(root / "setid.mat", {key: ids.astype(np.uint16) for key, ids in LISTS.items()})


@pytest.fixture(scope="module")
def archive_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("archive") / "a.tgz"
    order = np.random.default_rng(1).permutation(IMAGES)
    link = tarfile.TarInfo(name(4))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    decoys: list[tuple[tarfile.TarInfo | str, bytes]] = [
        (link, b""),
        ("jpg/image_00000.jpg", b"no such image"),
        ("jpg/image_08190.jpg", b"no such image"),
        ("jpg/image_1.jpg", b"too few digits"),
        ("jpg/image_00001.jpg.bak", b"another ending"),
        ("./jpg/../../image_00002.jpg", b"outside"),
        ("jpg/image_٠٠٠٠٣.jpg", b"digits, but not ours"),
    ]
    pack(path, [*decoys, *((name(int(row)), photograph(int(row))) for row in order)])
    return path.read_bytes()


@pytest.fixture
def root(tmp_path: Path, archive_bytes: bytes) -> Path:
    """A complete folder of official files, with the archive."""
    folder = tmp_path / "data root" / "flowers102"
    folder.mkdir(parents=True)
    (folder / "102flowers.tgz").write_bytes(archive_bytes)
    write_mats(folder)
    return folder


def extract(root: Path, mark: int = 9) -> None:
    (root / "jpg").mkdir()
    for row in range(IMAGES):
        (root / name(row)).write_bytes(photograph(row, mark))


def pixels(root: Path) -> np.ndarray:
    """All rows by their index, [N, 3]; -1 where none came."""
    out = np.full((IMAGES, 3), -1)
    for row, load in flowers102_source(root).images():
        assert out[row, 0] == -1, "the index came twice"
        out[row] = load().getpixel((0, 0))
    return out


def expected(mark: int) -> np.ndarray:
    rows = np.arange(IMAGES)
    return np.stack([rows // 256, rows % 256, np.full(IMAGES, mark)], axis=1)


def test_source_states_names_labels_and_lists_in_order_of_image_id(root: Path) -> None:
    source = flowers102_source(root)
    assert source.name == "flowers102"
    assert len(source.files) == 8189
    assert source.files[0] == "jpg/image_00001.jpg"
    assert source.files[-1] == "jpg/image_08189.jpg"
    assert source.labels.dtype == np.int64
    np.testing.assert_array_equal(source.labels, LABELS)
    for ours, official in {"train": "trnid", "validation": "valid", "test": "tstid"}.items():
        np.testing.assert_array_equal(source.lists[ours], LISTS[official] - 1)
        assert source.lists[ours].dtype == np.int64
    assert set(source.lists) == {"train", "validation", "test"}


def test_archive_yields_every_image_under_its_own_index_whatever_its_order(root: Path) -> None:
    before = sorted(root.iterdir())
    np.testing.assert_array_equal(pixels(root), expected(mark=0))
    assert sorted(root.iterdir()) == before, "the archive must not be extracted"


def test_complete_folder_is_preferred_and_enough(root: Path) -> None:
    extract(root)
    np.testing.assert_array_equal(pixels(root), expected(mark=9))
    (root / "102flowers.tgz").unlink()
    np.testing.assert_array_equal(pixels(root), expected(mark=9))


def test_incomplete_folder_gives_way_to_the_archive(root: Path) -> None:
    extract(root)
    (root / name(17)).unlink()
    np.testing.assert_array_equal(pixels(root), expected(mark=0))


def test_incomplete_folder_without_archive_says_how_many_are_missing(root: Path) -> None:
    extract(root)
    (root / "102flowers.tgz").unlink()
    for row in (16, 4000, 8188):
        (root / name(row)).unlink()
    with pytest.raises(UserError, match=r"lacks 3 of its 8189 images, image_00017\.jpg for one") as caught:
        flowers102_source(root)
    assert REMEDY in str(caught.value)


@pytest.mark.parametrize("missing", ["102flowers.tgz", "imagelabels.mat", "setid.mat"])
def test_missing_file_is_named_with_the_command_that_fetches_it_there(root: Path, missing: str) -> None:
    (root / missing).unlink()
    with pytest.raises(UserError) as caught:
        flowers102_source(root)
    assert str(caught.value) == f"{root / missing} is missing; run `{REMEDY} --root {shlex.quote(str(root.parent))}`"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_archive_is_an_error_when_the_images_are_read(root: Path, archive_bytes: bytes, share: float) -> None:
    (root / "102flowers.tgz").write_bytes(archive_bytes[: int(share * len(archive_bytes))])
    with pytest.raises(UserError, match=r"102flowers\.tgz is damaged .*; delete it and run `python tools/prepare_data"):
        pixels(root)


def test_archive_cut_in_its_check_sum_is_damaged(root: Path, archive_bytes: bytes) -> None:
    (root / "102flowers.tgz").write_bytes(archive_bytes[:-6])
    with pytest.raises(UserError, match=r"102flowers\.tgz is damaged"):
        pixels(root)


def test_altered_photograph_is_noticed_by_the_check_sum(root: Path, archive_bytes: bytes) -> None:
    tar = bytearray(gzip.decompress(archive_bytes))
    checksum_and_length = archive_bytes[-8:]
    at = tar.index(photograph(5000)) + len(photograph(5000)) - 1
    tar[at] ^= 1
    forged = gzip.compress(bytes(tar), compresslevel=1)[:-8] + checksum_and_length
    (root / "102flowers.tgz").write_bytes(forged)
    with pytest.raises(UserError, match=r"102flowers\.tgz is damaged \(CRC"):
        pixels(root)


def test_file_that_is_no_archive(root: Path) -> None:
    (root / "102flowers.tgz").write_bytes(b"<html>404</html>" * 1000)
    with pytest.raises(UserError, match=r"102flowers\.tgz is damaged"):
        pixels(root)


def test_archive_without_some_images_names_one(root: Path) -> None:
    pack(root / "102flowers.tgz", ((name(row), photograph(row)) for row in range(IMAGES) if row not in (76, 4000)))
    with pytest.raises(UserError, match=r"ends without 2 of its 8189 images, jpg/image_00077\.jpg for one"):
        pixels(root)


def test_member_of_insane_size_is_refused_unread(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flowers102, "_MAX_IMAGE_BYTES", 1000)
    pack(root / "102flowers.tgz", [(name(0), photograph(0)), (name(1), bytes(1001))])
    images = flowers102_source(root).images()
    assert next(images)[0] == 0
    with pytest.raises(UserError, match=r"jpg/image_00002\.jpg has 1001 bytes"):
        next(images)


def test_table_of_a_truncated_archive_fails_and_leaves_no_cache(
    root: Path, archive_bytes: bytes, tmp_path: Path
) -> None:
    (root / "102flowers.tgz").write_bytes(archive_bytes[: len(archive_bytes) // 2])
    with pytest.raises(UserError, match=r"102flowers\.tgz is damaged"):
        load_table(flowers102_source(root), tmp_path / "cache", size=1, progress=False)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("imagelabels.mat", {"labels": LABELS[:-1]}),
        ("imagelabels.mat", {"labels": LABELS - 1}),
        ("imagelabels.mat", {"labels": np.where(LABELS == 102, 1, LABELS)}),
        ("imagelabels.mat", {"labels": LABELS + 0.5}),
        ("imagelabels.mat", {"labels": "words"}),
        ("imagelabels.mat", {"label": LABELS}),
        ("setid.mat", {"trnid": LISTS["trnid"], "valid": LISTS["valid"]}),
        ("setid.mat", {**LISTS, "trnid": LISTS["trnid"][:-1]}),
        ("setid.mat", {"trnid": LISTS["tstid"], "valid": LISTS["valid"], "tstid": LISTS["trnid"]}),
        ("setid.mat", {**LISTS, "valid": LISTS["trnid"]}),
        ("setid.mat", {key: ids - 1 for key, ids in LISTS.items()}),
    ],
    ids=[
        "a label short", "from 0", "a class absent", "fractions", "words", "another key",
        "a list absent", "an id short", "train and test swapped", "images twice", "ids from 0",
    ],
)  # fmt: skip
def test_wrong_content_of_a_mat_file_names_it(root: Path, file: str, content: dict) -> None:
    savemat(root / file, content)
    with pytest.raises(UserError) as caught:
        flowers102_source(root)
    assert str(caught.value).startswith(f"{root / file} is damaged (")
    assert f"delete it and run `{REMEDY}" in str(caught.value)


@pytest.mark.parametrize("file", ["imagelabels.mat", "setid.mat"])
@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "html"])
def test_damaged_mat_file_is_named(root: Path, file: str, damage: str) -> None:
    good = (root / file).read_bytes()
    garbage = good[:128] + np.random.default_rng(0).bytes(len(good) - 128)
    bad = {"empty": b"", "half": good[: len(good) // 2], "garbage": garbage, "html": b"<html>404</html>" * 99}[damage]
    (root / file).write_bytes(bad)
    with pytest.raises(UserError) as caught:
        flowers102_source(root)
    assert str(caught.value).startswith(f"{root / file} is damaged (")


def test_identity_follows_the_files_and_nothing_else(root: Path) -> None:
    def identity() -> str:
        return json.dumps(flowers102_source(root).identity, sort_keys=True)

    first = identity()
    assert first == identity()
    assert flowers102_source(root).identity["root"] == str(root.resolve())
    seen = {first}
    for file in ("102flowers.tgz", "imagelabels.mat", "setid.mat"):
        os.utime(root / file, ns=(1, 1))
        assert identity() not in seen, file
        seen.add(identity())
    extract(root)
    assert identity() not in seen, "another place is read now"
    seen.add(identity())
    os.utime(root / name(3), ns=(1, 1))
    assert identity() not in seen
    seen.add(identity())
    os.utime(root / "102flowers.tgz", ns=(2, 2))
    assert identity() in seen, "the archive is not read any more"


def test_class_names_are_the_102_flowers() -> None:
    names = class_names()
    assert list(names) == list(range(1, 103))
    assert len(set(names.values())) == 102
    assert names[1] == "pink primrose"
    assert names[5] == "english marigold"
    assert names[77] == "passion flower"
    assert names[102] == "blackberry lily"
    assert all(text and text == text.strip() for text in names.values())


def test_official_files_are_those_that_the_reader_reads() -> None:
    assert [file.name for file in OFFICIAL_FILES] == ["102flowers.tgz", "imagelabels.mat", "setid.mat"]
    for file in OFFICIAL_FILES:
        assert file.url == f"https://www.robots.ox.ac.uk/~vgg/data/flowers/102/{file.name}"
        assert len(file.md5) == 32


@pytest.fixture(scope="module")
def real() -> Path:
    return real_folder("flowers102")


@pytest.mark.real_data
def test_real_files_have_the_published_counts(real: Path) -> None:
    source = flowers102_source(real)
    assert len(source.files) == len(source.labels) == 8189
    counts = np.bincount(source.labels)[1:]
    assert len(counts) == 102
    assert (counts.min(), counts.max()) == (40, 258)
    assert {key: len(rows) for key, rows in source.lists.items()} == {"train": 1020, "validation": 1020, "test": 6149}
    for key in ("train", "validation"):
        assert (np.bincount(source.labels[source.lists[key]])[1:] == 10).all(), "ten of each class"
    assert source.labels[0] == 77
    assert source.class_names[77] == "passion flower"


@pytest.mark.real_data
def test_real_images_come_once_each_and_decode(real: Path) -> None:
    seen = set()
    for row, load in flowers102_source(real).images():
        seen.add(row)
        if row % 400 == 0:
            image = load()
            assert image.mode == "RGB"
            assert min(image.size) >= 100
            assert np.asarray(image).std() > 10, "a photograph is not one flat colour"
    assert seen == set(range(8189))
