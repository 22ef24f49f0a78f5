import numpy as np
import paddle
import pytest
from paddle import nn

from ppfsl.autodiff import native, require_second_order, selftest
from ppfsl.errors import UserError


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    monkeypatch.delenv(selftest.SKIP, raising=False)
    self_test = selftest.self_test
    self_test.cache_clear()
    yield
    self_test.cache_clear()


def test_this_paddle_passes():
    assert selftest.self_test() < 1e-7
    require_second_order()


def test_it_runs_once_a_process(monkeypatch):
    require_second_order()
    monkeypatch.setattr(selftest, "grad", None)
    require_second_order()


def _fail(*_, **__):
    raise RuntimeError("this Paddle cannot")


def _slightly_wrong(*arguments):
    y, *statistics = _batch_norm(*arguments)
    return y * (1 + 1e-5 * y), *statistics


_batch_norm = native.normalization.batch_norm

FAULTS = {
    "the convolution's trap": lambda patch: (
        patch.setattr(native, "depending_on", lambda x, weight: x),
        patch.setattr("ppfsl.autodiff.graph.suspicious", lambda *_: None),
    ),
    "another batch norm": lambda patch: patch.setattr(native.normalization, "batch_norm", _slightly_wrong),
    "an operator left alone": lambda patch: patch.delitem(native.exchange.replacements, "flatten"),
    "an error": lambda patch: patch.setattr(paddle, "grad", _fail),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_paddle_that_fails_is_refused_in_one_sentence(monkeypatch, fault):
    FAULTS[fault](monkeypatch)
    with pytest.raises(UserError, match="second-order gradients are wrong in the installed PaddlePaddle") as caught:
        require_second_order()
    assert "\n" not in str(caught.value)
    assert selftest.SKIP in str(caught.value)


def test_it_can_be_skipped(monkeypatch):
    monkeypatch.setattr(selftest, "self_test", lambda: float("nan"))
    with pytest.raises(UserError):
        require_second_order()
    require_second_order(skip=True)
    monkeypatch.setenv(selftest.SKIP, "0")
    with pytest.raises(UserError):
        require_second_order()
    monkeypatch.setenv(selftest.SKIP, "1")
    require_second_order()


def test_it_leaves_no_traces():
    paddle.seed(5)
    expected = [paddle.rand([3]).numpy(), nn.Linear(2, 2).weight.name]
    first = int(expected[1].split("_")[1].split(".")[0])
    np.random.seed(1)  # noqa: NPY002
    numbers = np.random.get_state()[1].tolist()  # noqa: NPY002
    paddle.seed(5)
    selftest.self_test()
    np.testing.assert_array_equal(paddle.rand([3]).numpy(), expected[0])
    assert nn.Linear(2, 2).weight.name == f"linear_{first + 1}.w_0"
    assert np.random.get_state()[1].tolist() == numbers  # noqa: NPY002
