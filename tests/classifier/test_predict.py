"""Asking a classifier."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ppfsl.classifier import predict
from ppfsl.classifier.build import Built
from ppfsl.classifier.model import Classifier, Rejection
from ppfsl.classifier.pictures import Unreadable, read_square
from ppfsl.classifier.predict import Answer, Labeller
from ppfsl.data.augmentation import center_crop
from ppfsl.inference.engine import embed

Encode = Callable[..., bytes]


@pytest.fixture(scope="module")
def classifier(built: Built) -> Classifier:
    return built.classifier


@pytest.fixture(scope="module")
def labeller(classifier: Classifier) -> Labeller:
    return Labeller(classifier, nearest=3)


def answers_of(labeller: Labeller, files: list[Path]) -> list[Answer]:
    found = [answer for answer in labeller.label(files) if isinstance(answer, Answer)]
    assert len(found) == len(files)
    return found


def test_answers_step_by_step(classifier: Classifier, labeller: Labeller, photographs: Path) -> None:
    files = sorted(photographs.rglob("*.png"))[::13]
    images = center_crop(np.stack([read_square(file, 20, 3) for file in files]), 16)
    embeddings = embed(classifier.embedder, images, np.arange(len(files)))
    assert classifier.rejection is not None
    for file, embedding, answer in zip(files, embeddings, answers_of(labeller, files), strict=True):
        logits = [float(embedding @ classifier.weight[:, k] + classifier.bias[k]) for k in range(3)]
        total = sum(math.exp(value) for value in logits)
        wanted = {name: math.exp(value) / total for name, value in zip(classifier.class_names, logits, strict=True)}
        assert answer.name == str(file)
        assert answer.probabilities == pytest.approx(wanted, abs=1e-4)
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
        assert answer.label == max(wanted, key=lambda name: wanted[name]) == next(iter(answer.probabilities))
        assert answer.probability == max(answer.probabilities.values())
        cosines = []
        for k in range(3):
            mean = classifier.embeddings[classifier.labels == k].mean(0)
            cosines.append(float(embedding @ mean / np.linalg.norm(mean)))
        assert answer.similarity == pytest.approx(max(cosines), abs=1e-4)
        assert answer.unlike == (answer.similarity < classifier.rejection.threshold)
        scores = classifier.embeddings @ embedding
        order = sorted(range(12), key=lambda place: -scores[place])[:3]
        assert [near[2] for near in answer.nearest] == pytest.approx([scores[place] for place in order], abs=1e-4)
        for name, label, _ in answer.nearest:
            assert classifier.class_names[classifier.labels[classifier.files.index(name)]] == label


def test_nothing_is_nearer_to_a_support_picture_than_itself(labeller: Labeller, support: Path) -> None:
    files = sorted(support.rglob("*.png"))
    for file, answer in zip(files, answers_of(labeller, files), strict=True):
        assert answer.nearest[0][:2] == (file.relative_to(support).as_posix(), file.parent.name)
        assert answer.nearest[0][2] == pytest.approx(1, abs=1e-4)


def test_a_batch_answers_as_one_by_one(labeller: Labeller, photographs: Path) -> None:
    files = sorted(photographs.rglob("*.png"))[: 2 * predict.BATCH + 5]
    together = answers_of(labeller, files)
    alone = [answers_of(labeller, [file])[0] for file in files]
    for one, other in zip(together, alone, strict=True):
        assert (one.name, one.label, one.unlike) == (other.name, other.label, other.unlike)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.similarity == pytest.approx(other.similarity, abs=1e-6)
        assert [near[0] for near in one.nearest] == [near[0] for near in other.nearest]


@pytest.mark.parametrize("nearest", [0, 1, 12, 1000])
def test_as_many_neighbours_as_asked_for(classifier: Classifier, support: Path, nearest: int) -> None:
    (answer,) = answers_of(Labeller(classifier, nearest), [support / "rose" / "00.png"])
    assert len(answer.nearest) == min(nearest, 12)


def test_the_threshold_itself_is_like_a_class(classifier: Classifier, photographs: Path) -> None:
    file = photographs / "class07" / "03.png"
    (plain,) = answers_of(Labeller(classifier), [file])
    for threshold, unlike in ((plain.similarity, False), (np.nextafter(plain.similarity, 2), True)):
        strict = replace(classifier, rejection=Rejection(float(threshold), 1, 1, "by hand"))
        (answer,) = answers_of(Labeller(strict), [file])
        assert answer.unlike == unlike
        assert answer.label == plain.label, "it still says which class is the most like it"
    (never,) = answers_of(Labeller(replace(classifier, rejection=None)), [file])
    assert not never.unlike


def test_every_kind_of_picture_is_labelled_as_the_plain_one(labeller: Labeller, encoded: Encode) -> None:
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (20, 20), dtype=np.uint8))
    plain = grey.convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "plain": encoded(plain),
        "grey": encoded(grey),
        "opaque": encoded(plain.convert("RGBA")),
        "grey with alpha": encoded(grey.convert("LA")),
        "cmyk": encoded(plain.convert("CMYK"), "TIFF"),
        "16 bits": encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)),
        "palette": encoded(grey.convert("P")),
        "animated": encoded(plain, "GIF", save_all=True, append_images=[Image.new("RGB", (20, 20), "red")] * 2),
        "on its side": encoded(plain.transpose(Image.Transpose.ROTATE_90), exif=turned),
    }
    first, *others = labeller.label_batch(list(kinds.items()))
    assert isinstance(first, Answer)
    for answer in others:
        assert isinstance(answer, Answer), answer
        assert answer.probabilities == pytest.approx(first.probabilities, abs=1e-5), answer.name
    on_its_side = encoded(plain.transpose(Image.Transpose.ROTATE_90))
    (other,) = labeller.label_batch([("without a tag", on_its_side)])
    assert isinstance(other, Answer)
    assert other.probabilities != pytest.approx(first.probabilities, abs=1e-5), "or the tag made no difference"


def test_bad_pictures_do_not_stop_the_rest(labeller: Labeller, encoded: Encode, photographs: Path) -> None:
    good = sorted(photographs.rglob("*.png"))[:40]
    wanted = answers_of(labeller, good)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    bad = {0: encoded(noise, "JPEG")[:1500], 17: b"", 31: b"<svg/>", 32: encoded(noise)[:900], 40: b"GIF89a"}
    files: list[tuple[str, Path | bytes]] = [(str(file), file) for file in good]
    for place, content in bad.items():
        files.insert(place, (f"bad {place}", content))
    found = labeller.label_batch(files)
    assert [answer.name for answer in found] == [name for name, _ in files]
    unreadable = [answer for answer in found if isinstance(answer, Unreadable)]
    assert [answer.name for answer in unreadable] == [f"bad {place}" for place in bad]
    assert all(answer.reason and "\n" not in answer.reason for answer in unreadable)
    for answer, plain in zip((a for a in found if isinstance(a, Answer)), wanted, strict=True):
        assert answer.label == plain.label
        assert answer.probabilities == pytest.approx(plain.probabilities, abs=1e-5)


def test_bad_pictures_alone(labeller: Labeller, tmp_path: Path) -> None:
    found = list(labeller.label([tmp_path / "gone.png"] * 2))
    assert found == [Unreadable(str(tmp_path / "gone.png"), "No such file or directory")] * 2
    assert list(labeller.label([])) == []


def test_pictures_are_read_a_batch_at_a_time(labeller: Labeller, photographs: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(predict, "BATCH", 4)
    opened: list[Path | bytes] = []

    def counted(file: Path | bytes, size: int, channels: int) -> np.ndarray:
        opened.append(file)
        return read_square(file, size, channels)

    monkeypatch.setattr(predict, "read_square", counted)
    next(labeller.label(sorted(photographs.rglob("*.png"))))
    assert len(opened) == 4


def test_numbers_that_overflow_are_no_answer(classifier: Classifier, support: Path) -> None:
    weight = np.full_like(classifier.weight, 3e38) * np.sign(classifier.embeddings.mean(0))[:, None]
    odd = replace(classifier, weight=weight.astype(np.float32), bias=np.full_like(classifier.bias, 3e38))
    (answer,) = Labeller(odd).label([support / "rose" / "00.png"])
    assert isinstance(answer, Unreadable)
    assert "not finite; build the classifier again" in answer.reason
