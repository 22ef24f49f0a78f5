import numpy as np
import paddle
import pytest

from ppfsl.onednn.layout import as_channels_first, as_channels_last, empty_channels_last, has_channels_last

ROWS = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


def test_maps_in_rows_are_copied_and_maps_with_channels_last_are_not():
    rows = paddle.to_tensor(ROWS)
    last = as_channels_last(rows)
    np.testing.assert_array_equal(last.numpy(), ROWS.transpose(0, 2, 3, 1))
    assert last.is_contiguous()
    assert last.data_ptr() != rows.data_ptr()
    maps = as_channels_first(last)
    np.testing.assert_array_equal(maps.numpy(), ROWS)
    assert maps.data_ptr() == last.data_ptr()
    assert as_channels_last(maps).data_ptr() == last.data_ptr()
    assert as_channels_last(maps[1:]).data_ptr() == last.data_ptr() + 3 * 4 * 5 * 4


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 4, 5), (2, 3, 1, 1), (2, 3, 1, 5), (1, 7, 1, 1), (4, 2, 2, 2)])
def test_channels_last_are_recognised(shape):
    maps = as_channels_first(paddle.rand([shape[0], shape[2], shape[3], shape[1]]))
    assert tuple(maps.shape) == shape
    assert has_channels_last(maps)
    assert not has_channels_last(paddle.rand(shape))


def test_other_layouts_are_not_taken_for_channels_last():
    maps = as_channels_first(paddle.rand([4, 4, 4, 4]))
    assert has_channels_last(maps)
    assert has_channels_last(maps[1:])
    for other in (
        maps[:, :2],
        maps[:, :, 1:],
        maps[:, :, :, :3],
        maps.transpose([0, 1, 3, 2]),
        maps.transpose([1, 0, 2, 3]),
        maps.contiguous(),
        paddle.as_strided(maps, [4, 4, 4, 4], [0, 1, 16, 4]),
        maps[0],
        paddle.rand([4, 4]).T,
        paddle.rand([2, 3, 4, 5, 6]).transpose([0, 4, 1, 2, 3]),
    ):
        assert not has_channels_last(other)


def test_one_channel_lies_in_memory_as_rows_do():
    assert not has_channels_last(paddle.rand([2, 1, 3, 3]))
    maps = as_channels_first(paddle.rand([2, 3, 3, 1]))
    np.testing.assert_array_equal(as_channels_last(maps).numpy()[..., 0], maps.numpy()[:, 0])


def test_empty_memory_is_float32_whatever_paddles_default(default_dtype):
    memory = empty_channels_last((2, 3, 4, 5))
    assert (memory.shape, memory.dtype) == ([2, 4, 5, 3], paddle.float32)
    assert memory.is_contiguous()
    assert memory.stop_gradient
    assert default_dtype != "float32"
