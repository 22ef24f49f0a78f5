"""oneDNN's interface: found or not, and primitives on memory."""

import ctypes
import threading
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppfsl.onednn import library as dnnl


@pytest.fixture
def unloaded():
    """As before the library was found; what other tests have made of it stays valid."""
    dnnl.library.cache_clear()
    yield
    dnnl.library.cache_clear()


def test_paddle_ships_version_3():
    assert dnnl.library().dnnl_version().contents.major == 3
    assert dnnl.library() is dnnl.library()


def test_missing_library_is_named(unloaded, monkeypatch, tmp_path):
    monkeypatch.setattr(paddle, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(OSError, match=r"this Paddle ships no oneDNN in .*libs"):
        dnnl.library()


def test_file_that_is_no_library_is_an_error(unloaded, monkeypatch, tmp_path):
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "libdnnl.so.3").write_text("text")
    monkeypatch.setattr(paddle, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(OSError, match=r"libdnnl\.so\.3"):
        dnnl.library()


@pytest.mark.parametrize("major", [2, 4])
def test_other_major_versions_are_refused(unloaded, monkeypatch, major):
    version = dnnl._Version(major, 7, 1)
    other = SimpleNamespace(dnnl_version=lambda: ctypes.pointer(version))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: other)
    with pytest.raises(OSError, match=rf"oneDNN {major}\.7, not version 3"):
        dnnl.library()


def test_function_that_is_missing_is_named(unloaded, monkeypatch):
    monkeypatch.setitem(dnnl._SIGNATURES, "of_tomorrow", ())
    with pytest.raises(AttributeError, match="dnnl_of_tomorrow"):
        dnnl.library()


def test_failures_carry_the_functions_name_and_status():
    with pytest.raises(dnnl.OneDNNError, match="oneDNN's memory_desc_create_with_strides returned status 2"):
        dnnl.row_major((-1, 2))
    with pytest.raises(dnnl.OneDNNError, match="engine_create"):
        dnnl.create("engine_create", 1, 99)


def test_sizes_are_in_bytes():
    assert dnnl.size_of(dnnl.row_major((2, 3, 4))) == 4 * 24
    assert dnnl.size_of(dnnl.channels_last((2, 3, 4, 5))) == 4 * 120
    assert dnnl.size_of(dnnl.row_major((7,))) == 4 * 7


def reordered(before, after, numbers: np.ndarray) -> np.ndarray:
    return dnnl.Reordering(before, after)(paddle.to_tensor(numbers)).numpy().ravel()


def test_layouts_are_what_their_names_say():
    shape = (2, 3, 4, 5)
    numbers = np.arange(120, dtype=np.float32).reshape(shape)
    last = reordered(dnnl.row_major(shape), dnnl.channels_last(shape), numbers)
    np.testing.assert_array_equal(last, numbers.transpose(0, 2, 3, 1).ravel())
    back = reordered(dnnl.channels_last(shape), dnnl.row_major(shape), last)
    np.testing.assert_array_equal(back, numbers.ravel())
    strided = dnnl.described((2, 3), (1, 2))
    assert reordered(dnnl.row_major((2, 3)), strided, np.arange(6.0, dtype=np.float32)).tolist() == [0, 3, 1, 4, 2, 5]


def test_nothing_is_copied_where_layouts_are_the_same():
    tensor = paddle.rand([2, 3])
    reordering = dnnl.Reordering(dnnl.row_major((2, 3)), dnnl.described((2, 3), (3, 1)))
    assert not reordering.needed
    assert reordering(tensor) is tensor


def test_copies_are_float32_whatever_paddles_default(default_dtype):
    assert paddle.empty([1]).dtype == getattr(paddle, default_dtype)
    reordering = dnnl.Reordering(dnnl.row_major((2, 3)), dnnl.described((2, 3), (1, 2)))
    assert reordering(paddle.ones([2, 3], "float32")).dtype == paddle.float32


def test_a_primitive_serves_several_threads_at_once():
    rows, columns = dnnl.row_major((300, 200)), dnnl.described((300, 200), (1, 300))
    primitive = dnnl.Primitive(
        dnnl.create("reorder_primitive_desc_create", rows, dnnl.engine(), columns, dnnl.engine(), None),
        {dnnl.SOURCE: rows, dnnl.DESTINATION: columns},
    )
    start, wrong = threading.Barrier(4), []

    def work(seed: int) -> None:
        start.wait()
        for _ in range(30):
            numbers, copy = np.full((300, 200), seed, np.float32), np.zeros((200, 300), np.float32)
            primitive(numbers.ctypes.data, copy.ctypes.data)
            if not (copy == seed).all():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_primitive_wants_an_address_for_every_argument():
    rows, columns = dnnl.row_major((2, 3)), dnnl.described((2, 3), (1, 2))
    reordering = dnnl.Reordering(rows, columns)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        reordering._copy(0)
