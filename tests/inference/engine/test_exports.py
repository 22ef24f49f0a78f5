"""When embedders are exported, how many are kept, and when an export is not trusted."""

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.errors import UserError
from ppfsl.inference import engine, saved
from ppfsl.inference.engine import embed
from tests.inference.engine.networks import SMALL, close, eager, pictures, trained


def test_the_same_weights_are_exported_once_per_output(exports: list[Any]) -> None:
    images = pictures(3, 20)
    first = embed(trained(SMALL), images, np.arange(3))
    assert np.array_equal(embed(trained(SMALL), images, np.arange(3)), first)
    assert len(exports) == 1
    embed(trained(SMALL), images, np.arange(3), "features")
    embed(trained(SMALL), images, np.arange(3))
    assert len(exports) == 2


def test_architectures_of_the_same_weights_are_told_apart(exports: list[Any]) -> None:
    """The normalisation of pixels is none of them."""
    images = pictures(3, 20)
    first, other = trained(SMALL), trained(dataclasses.replace(SMALL, normalization="signed"))
    assert engine.weights_digest(first) == engine.weights_digest(other)
    embed(first, images, np.arange(3))
    close(embed(other, images, np.arange(3)), eager(other, images))
    assert len(exports) == 2


def test_onednn_runs_it_with_the_threads_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    really = saved.inference.create_predictor

    def create(config: Any) -> Any:
        found.append((config.mkldnn_enabled(), config.cpu_math_library_num_threads()))
        return really(config)

    monkeypatch.setattr(saved.inference, "create_predictor", create)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    embed(trained(SMALL), pictures(2, 20), np.arange(2))
    assert found == [(True, 3)]


def test_what_paddle_prints_stays_out_of_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """Of a ResNet12, the name of a check."""
    embedder = build_embedder(Architecture("resnet12", 32, 3, 6), 0)
    run = engine.predictor(embedder)
    assert run(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 6)
    print("the answer")
    assert capfd.readouterr() == ("the answer\n", "")


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Paddle does not: what it cuts off is found out when the network is opened, in words about its insides."""

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    expected = rf"^cannot write an exported network in {tmp_path}: No space left on device; make room, or let TMPDIR "
    with pytest.raises(UserError, match=expected + "name another folder$"):
        (tmp_path / "network").mkdir()
        saved.save_network(trained(SMALL), (3, 16, 16), tmp_path / "network")


@pytest.mark.parametrize(("asked", "exported"), [(3, 0), (4, 1), (None, 1)])
def test_nothing_is_exported_for_a_few_images(
    asked: int | None, exported: int, exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FEW", 3)
    embedder, images = trained(SMALL), pictures(3, 16)
    embedder.train()
    run = engine.predictor(embedder, asked)
    close(run(engine.to_pixels(images)), eager(embedder, images))
    assert len(exports) == exported


@pytest.mark.parametrize(("count", "exported"), [(3, 0), (4, 1)])
def test_a_few_images_of_a_table_are_embedded_without_an_export(
    count: int, exported: int, exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "FEW", 3)
    embedder, images = trained(SMALL), pictures(6, 20)
    close(embed(embedder, images, np.arange(count), batch_size=2), eager(embedder, images[:count]))
    assert len(exports) == exported


def test_few_exported_networks_are_kept(exports: list[Any]) -> None:
    embedder, images = trained(SMALL), pictures(3, 20)
    assert embedder.projection is not None
    for number in range(4):
        embedder.projection.bias.set_value(embedder.projection.bias + number)
        embed(embedder, images, np.arange(3))
    assert len(exports) == 4 and len(engine._kept) == engine._MOST_KEPT
    embed(embedder, images, np.arange(3))
    assert len(exports) == 4


def test_statistics_count_among_the_weights(exports: list[Any]) -> None:
    embedder, images = trained(SMALL), pictures(3, 20)
    first = embed(embedder, images, np.arange(3))
    mean = next(value for name, value in embedder.state_dict().items() if name.endswith("_mean"))
    mean.set_value(mean + 0.5)
    assert np.abs(embed(embedder, images, np.arange(3)) - first).max() > 1e-3
    assert len(exports) == 2


def test_embedder_that_cannot_be_exported_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(engine, "_export", fail)
    embedder, images = trained(SMALL), pictures(3, 20)
    with pytest.warns(UserWarning, match=r"Paddle Inference cannot run this embedder \(RuntimeError\('no such oper"):
        found = embed(embedder, images, np.arange(3))
    np.testing.assert_array_equal(found, eager(embedder, images))


@pytest.mark.parametrize("wrong", [lambda x: 1.01 * x, lambda x: x * np.nan], ids=["1 % off", "NaN"])
def test_export_that_gives_other_numbers_is_not_trusted(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, images = trained(SMALL), pictures(3, 20)

    def other_numbers(layer: Embedder, shape: tuple[int, ...]) -> Any:
        assert shape == (3, 20, 20)
        return lambda pixels: wrong(layer(paddle.to_tensor(pixels)).numpy())

    monkeypatch.setattr(engine, "_export", other_numbers)
    with pytest.warns(UserWarning, match=r"Paddle Inference differs from eager by \S+; running eagerly"):
        found = embed(embedder, images, np.arange(3))
    np.testing.assert_array_equal(found, eager(embedder, images))


def test_a_network_that_gives_zeros_is_exported_too(exports: list[Any]) -> None:
    """Its numbers are no measure for a difference."""
    embedder = trained(SMALL)
    for parameter in embedder.projection.parameters():
        parameter.set_value(parameter * 0)
    found = embed(embedder, pictures(3, 20), np.arange(3))
    assert not found.any() and len(engine._kept) == 1


def test_export_leaves_nothing_behind(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    embed(trained(SMALL), pictures(2, 20), np.arange(2))
    assert list(tmp_path.iterdir()) == []
