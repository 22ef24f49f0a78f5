import threading
import time

import numpy as np
import paddle
import pytest
from paddle import nn

from ppfsl.autodiff import call_with_statistics, functional_call, grad, substituted, trainable_parameters

RNG = np.random.default_rng(1)


def _numbers(*shape):
    return paddle.to_tensor(RNG.normal(size=shape).astype("float32"))


def _state(layer):
    """The very objects that a layer holds, and their numbers."""
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    return {name: (id(tensor), tensor.numpy().tolist()) for name, tensor in tensors.items()}


class _Nested(nn.Layer):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1D(4), nn.Tanh()))
        self.gain = self.create_parameter([4])
        self.register_buffer("calls", paddle.zeros([1]))
        self.sublayers_in_a_list = [self.body[0]]

    def forward(self, x, fail=False):
        self.calls = self.calls + 1
        y = self.body[1](self.sublayers_in_a_list[0](x)) * self.gain
        if fail:
            raise RuntimeError("on purpose")
        return y


def test_given_tensors_take_the_places_of_the_parameters():
    layer, x = _Nested(), _numbers(5, 3)
    layer.eval()
    other = {name: _numbers(*parameter.shape) for name, parameter in trainable_parameters(layer).items()}
    result = functional_call(layer, other, x).numpy()
    y = np.asarray(x) @ other["body.0.weight"].numpy() + other["body.0.bias"].numpy()
    y = y / np.sqrt(1 + 1e-5) * other["body.1.0.weight"].numpy() + other["body.1.0.bias"].numpy()
    np.testing.assert_allclose(result, np.tanh(y) * other["gain"].numpy(), rtol=1e-5)
    for name, value in other.items():
        dict(layer.named_parameters())[name].set_value(value)
    np.testing.assert_array_equal(layer(x).numpy(), result)


def test_parameters_not_given_stay_the_layers_own():
    layer, x = _Nested(), _numbers(5, 3)
    np.testing.assert_array_equal(functional_call(layer, {}, x).numpy(), layer(x).numpy())
    gain = _numbers(4)
    expected = functional_call(layer, {"gain": paddle.ones([4])}, x) * gain
    np.testing.assert_allclose(functional_call(layer, {"gain": gain}, x).numpy(), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_the_layer_is_what_it_was(training):
    layer, x = _Nested(), _numbers(5, 3)
    layer.train() if training else layer.eval()
    before = _state(layer)
    functional_call(layer, trainable_parameters(layer), x)
    functional_call(layer, {"body.1.0._mean": _numbers(4), "gain": _numbers(4)}, x)
    assert _state(layer) == before
    assert all(isinstance(p, paddle.base.framework.EagerParamBase) for p in layer.parameters())


def test_the_layer_is_what_it_was_when_it_fails():
    layer, x = _Nested(), _numbers(5, 3)
    before = _state(layer)
    with pytest.raises(RuntimeError, match="on purpose"):
        functional_call(layer, {"gain": _numbers(4)}, x, fail=True)
    with pytest.raises(ValueError, match="shape"):
        functional_call(layer, {"body.0.bias": _numbers(4), "gain": _numbers(3)}, x)
    assert _state(layer) == before


def test_the_tensors_given_are_not_written_to():
    layer, x = _Nested(), _numbers(5, 3)
    mean = paddle.ones([4])
    _, statistics = call_with_statistics(layer, {"body.1.0._mean": mean}, x)
    assert mean.numpy().tolist() == [1, 1, 1, 1]
    assert np.abs(statistics["body.1.0._mean"].numpy() - 0.9).max() < 1  # 0.9 of the old value and a tenth of the new


def test_statistics_are_those_that_the_layer_would_have():
    layer, same = _Nested(), _Nested()
    same.set_state_dict(layer.state_dict())
    statistics = {}
    for _ in range(3):
        x = _numbers(5, 3)
        expected = same(x)
        output, statistics = call_with_statistics(layer, statistics, x)
        np.testing.assert_allclose(output.numpy(), expected.numpy(), rtol=1e-5)
    assert set(statistics) == {"body.1.0._mean", "body.1.0._variance", "calls"}
    assert statistics["calls"].item() == 3
    assert layer.calls.item() == 0
    for name in ("_mean", "_variance"):
        np.testing.assert_array_equal(statistics[f"body.1.0.{name}"].numpy(), getattr(same.body[1][0], name).numpy())
        assert statistics[f"body.1.0.{name}"].stop_gradient


def test_buffers_that_are_written_in_place_or_appear_are_restored():
    class Counting(nn.Layer):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", paddle.zeros([1]))

        def forward(self, x):
            self.count.add_(paddle.ones([1]))
            self.register_buffer("seen", x.detach())
            return x

    layer = Counting()
    _, statistics = call_with_statistics(layer, {}, paddle.ones([2]))
    assert statistics["count"].item() == 1
    assert layer.count.item() == 0
    assert "seen" not in dict(layer.named_buffers())


def test_the_graph_is_kept():
    layer, x = nn.Linear(3, 1, bias_attr=False), _numbers(5, 3)
    root = _numbers(3, 1)
    root.stop_gradient = False
    loss = functional_call(layer, {"weight": root * root}, x).sum()
    gradient = grad(loss, {"root": root})["root"]
    np.testing.assert_allclose(gradient.numpy()[:, 0], 2 * root.numpy()[:, 0] * x.numpy().sum(0), rtol=1e-5)
    assert layer.weight.grad is None


def test_a_shared_parameter_has_one_name_and_is_replaced_in_both_places():
    layer = nn.Sequential(nn.Linear(3, 3, bias_attr=False), nn.Linear(3, 3, bias_attr=False))
    layer[1].weight = layer[0].weight
    weight, x = _numbers(3, 3), _numbers(2, 3)
    weight.stop_gradient = False
    assert list(trainable_parameters(layer)) == ["0.weight"]
    y = functional_call(layer, {"0.weight": weight}, x)
    np.testing.assert_allclose(y.numpy(), (x @ weight @ weight).numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        grad(y.sum(), {"w": weight})["w"].numpy(), grad((x @ weight @ weight).sum(), {"w": weight})["w"].numpy(), 1e-5
    )
    assert layer[0].weight is layer[1].weight
    with pytest.raises(ValueError, match=r"no parameter or buffer named '1\.weight'"):
        functional_call(layer, {"1.weight": weight}, x)


def test_a_layer_in_two_places():
    linear = nn.Linear(3, 3, bias_attr=False)
    layer, x, weight = nn.Sequential(linear, nn.Tanh(), linear), _numbers(2, 3), _numbers(3, 3)
    y = functional_call(layer, {"0.weight": weight}, x)
    np.testing.assert_allclose(y.numpy(), (paddle.tanh(x @ weight) @ weight).numpy(), rtol=1e-5)


def test_mistakes_are_named():
    layer, x = _Nested(), _numbers(5, 3)
    with pytest.raises(ValueError, match=r"_Nested has no parameter or buffer named 'body.0.weigth'.*'body.0.weight'"):
        functional_call(layer, {"body.0.weigth": _numbers(3, 4)}, x)
    with pytest.raises(ValueError, match=r"'gain' has the shape \[4\], not \[5\]"):
        functional_call(layer, {"gain": _numbers(5)}, x)


def test_running_statistics_do_not_learn():
    assert set(trainable_parameters(_Nested())) == {
        "gain",
        "body.0.weight",
        "body.0.bias",
        "body.1.0.weight",
        "body.1.0.bias",
    }


def test_other_methods_than_forward():
    layer, x = _Nested(), _numbers(5, 3)
    bias = _numbers(4)
    with substituted(layer, {"body.0.bias": bias}) as statistics:
        assert not statistics
        y = layer.body[0](x)
    np.testing.assert_allclose(y.numpy(), (x @ layer.body[0].weight + bias).numpy(), rtol=1e-5)
    assert "calls" in statistics


def test_calls_within_calls():
    layer, x = nn.Linear(2, 2), _numbers(3, 2)
    first, second = ({"weight": _numbers(2, 2)} for _ in range(2))
    with substituted(layer, first):
        inner = functional_call(layer, second, x)
        outer = layer(x)
    np.testing.assert_allclose(inner.numpy(), (x @ second["weight"] + layer.bias).numpy(), rtol=1e-5)
    np.testing.assert_allclose(outer.numpy(), (x @ first["weight"] + layer.bias).numpy(), rtol=1e-5)


def test_threads_do_not_see_one_anothers_tensors():
    class Slow(nn.Linear):
        def forward(self, x):
            time.sleep(0.05)
            return super().forward(x)

    layer, x, results = Slow(1, 1, bias_attr=False), paddle.ones([1, 1]), {}

    def work(value):
        results[value] = functional_call(layer, {"weight": paddle.full([1, 1], value)}, x).item()

    threads = [threading.Thread(target=work, args=(float(value),)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: 0, 1: 1, 2: 2, 3: 3}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.SimpleRNN])
def test_recurrent_layers(kind):
    layer, x = kind(3, 4), paddle.ones([2, 5, 3])
    expected = layer(x)[0].numpy()
    parameters = trainable_parameters(layer)
    np.testing.assert_array_equal(functional_call(layer, parameters, x)[0].numpy(), expected)
    zeros = {name: paddle.zeros_like(value) for name, value in parameters.items()}
    assert not functional_call(layer, zeros, x)[0].numpy().any()
    np.testing.assert_array_equal(layer(x)[0].numpy(), expected)


@pytest.mark.parametrize("value", [None, np.zeros((2, 2), np.float32)])
def test_what_is_no_tensor_is_refused(value):
    with pytest.raises(TypeError, match=r"^Linear: 'weight' must be a tensor, not (NoneType|ndarray)$"):
        functional_call(nn.Linear(2, 2), {"weight": value}, paddle.ones([1, 2]))
