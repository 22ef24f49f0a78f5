import gc

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from ppfsl.autodiff import SecondOrderError, functional_call, grad, trainable_parameters, twice_differentiable
from ppfsl.errors import UserError

RNG = np.random.default_rng(2)


def _leaf(value):
    return paddle.to_tensor(value, dtype="float64", stop_gradient=False)


def _images(*shape):
    return paddle.to_tensor(RNG.normal(size=shape).astype("float32"))


def test_gradients_come_under_the_names_of_the_parameters():
    a, b = _leaf([1.0, 2.0]), _leaf([3.0, 4.0])
    found = grad((a * b * b).sum(), {"a": a, "b": b})
    assert {name: value.numpy().tolist() for name, value in found.items()} == {"a": [9, 16], "b": [6, 16]}
    assert found["a"].stop_gradient
    assert a.grad is None


def test_gradients_of_gradients():
    x = _leaf([2.0, 3.0])
    first = grad((x**3).sum(), {"x": x}, create_graph=True)["x"]
    second = grad(first.sum(), {"x": x}, create_graph=True)["x"]
    assert first.numpy().tolist() == [12, 27]
    assert second.numpy().tolist() == [12, 18]


def test_gradients_by_computed_tensors():
    x = _leaf([2.0])
    fast = {"x": x - 0.1 * grad((x**3).sum(), {"x": x}, create_graph=True)["x"]}
    inner = grad((fast["x"] ** 2).sum(), fast, create_graph=True)
    np.testing.assert_allclose(inner["x"].numpy(), [2 * (2 - 1.2)])
    np.testing.assert_allclose(grad(inner["x"].sum(), {"x": x})["x"].numpy(), [2 * (1 - 0.1 * 6 * 2)])


@pytest.mark.parametrize("create_graph", [True, False])
def test_a_parameter_that_the_loss_does_not_depend_on(create_graph):
    a, b, frozen = _leaf([1.0]), _leaf([[3.0, 4.0]]), paddle.ones([2])
    both = {"a": a, "b": b}
    parameters = {**both, "frozen": frozen}
    with pytest.raises(ValueError, match=r"^'frozen' is frozen; .*allow_unused"):
        grad((a * 2).sum(), parameters, create_graph)
    with pytest.raises(ValueError, match=r"does not depend on 'b'; .*allow_unused"):
        grad((a * a).sum(), both, create_graph)
    found = grad((a * a).sum(), parameters, create_graph, allow_unused=True)
    assert {name: value.numpy().tolist() for name, value in found.items()} == {
        "a": [2],
        "b": [[0, 0]],
        "frozen": [0, 0],
    }


def test_a_loss_that_depends_on_nothing():
    a = _leaf([1.0])
    with pytest.raises(ValueError, match="'a'"):
        grad(paddle.ones([1]), {"a": a})
    assert grad(paddle.ones([1]), {"a": a}, allow_unused=True)["a"].item() == 0


def test_one_tensor_under_two_names():
    a = _leaf([3.0])
    found = grad((a * a).sum(), {"first": a, "second": a})
    assert (found["first"].item(), found["second"].item()) == (6, 6)


def test_the_loss_is_one_number():
    a = _leaf([1.0, 2.0])
    with pytest.raises(ValueError, match=r"one number, not a tensor of the shape \[2\]"):
        grad(a * a, {"a": a})


def _loss(network, parameters, images):
    return (functional_call(network, parameters, images) ** 2).sum()


TREACHEROUS = {
    "convolution": nn.Conv2D(2, 3, 3),
    "1D convolution": nn.Conv1D(2, 3, 3),
    "depthwise convolution": nn.Conv2D(2, 2, 3, groups=2),
    "batch norm": nn.BatchNorm2D(2),
    "instance norm": nn.InstanceNorm2D(2),
}


@pytest.mark.parametrize("name", TREACHEROUS)
def test_what_paddle_would_get_wrong_without_a_word_is_refused(name):
    network = TREACHEROUS[name]
    images = _images(2, 2, 5) if name.startswith("1D") else _images(2, 2, 5, 5)
    parameters = trainable_parameters(network)
    with pytest.raises(SecondOrderError, match=r"'(weight|scale|bias)' would give a wrong second .* twice_diff"):
        grad(_loss(network, parameters, images), parameters, create_graph=True)
    grad(_loss(twice_differentiable(network), parameters, images), parameters, create_graph=True)


def test_a_convolution_behind_which_nothing_is_requested_is_refused():
    network = nn.Sequential(nn.Conv2D(1, 2, 3), nn.Conv2D(2, 2, 3))
    parameters = trainable_parameters(network)
    with pytest.raises(SecondOrderError, match=r"convolution .* '1\.weight'"):
        grad(_loss(network, parameters, _images(1, 1, 5, 5)), {"1.weight": parameters["1.weight"]}, create_graph=True)


def test_paddle_does_get_it_wrong():
    """The reason for all this; when it fails, Paddle has been mended."""
    weight = _leaf(RNG.normal(size=(3, 2, 3, 3)))
    x = _leaf(RNG.normal(size=(1, 2, 5, 5)))
    (first,) = paddle.grad([(F.conv2d(x, weight) ** 3).sum()], [weight], create_graph=True)
    assert paddle.grad([(first**2).sum()], [weight], allow_unused=True)[0] is None


def test_what_lies_before_the_requested_parameters_may_be_anything():
    """As in ANIL: only the head adapts."""
    body = nn.Sequential(nn.Conv2D(2, 3, 3), nn.BatchNorm2D(3), nn.GELU(), nn.MaxPool2D(2), nn.Flatten())
    head = nn.Linear(3, 1)
    loss = (head(body(_images(2, 2, 4, 4))) ** 2).sum()
    inner = grad(loss, trainable_parameters(head), create_graph=True)
    grad(inner["weight"].sum(), trainable_parameters(body))


class _Unfolding(nn.Layer):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(1, 2, 3), nn.ReLU())
        self.activation = nn.GELU()

    def forward(self, x):
        return self.activation(self.stem(x))[:, :, ::2]


def test_the_layer_that_has_no_second_derivative_is_named():
    network = twice_differentiable(nn.Sequential(nn.Conv2D(1, 2, 3), nn.Sequential(nn.ReLU(), nn.Mish())))
    parameters = trainable_parameters(network)
    with pytest.raises(SecondOrderError, match=r"'mish' in the layer '1\.1' \(Mish\) has no second") as caught:
        grad(_loss(network, parameters, _images(1, 1, 5, 5)), parameters, create_graph=True)
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)
    assert "nodes.cc" not in str(caught.value)
    grad(_loss(network, parameters, _images(1, 1, 5, 5)), parameters)


def test_the_layer_is_named_after_a_passing_view_of_its_network():
    network = nn.Sequential(nn.Linear(2, 2), nn.Mish())
    parameters = trainable_parameters(network)
    loss = functional_call(twice_differentiable(network), parameters, paddle.ones([1, 2])).sum()
    gc.collect()
    with pytest.raises(SecondOrderError, match=r"'mish' in the layer .*'1' \(Mish\)"):
        grad(loss, parameters, create_graph=True)


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (nn.Sequential(nn.Conv2DTranspose(1, 2, 3), nn.ReLU()), "0"),
        (nn.Sequential(nn.Conv2D(1, 2, 3), nn.Tanh(), nn.Conv2DTranspose(2, 4, 3)), "2"),
        (nn.Sequential(nn.Conv2D(1, 2, 3), nn.Conv2DTranspose(2, 2, 3, groups=2)), "1"),
    ],
)
def test_transposed_convolutions_are_refused_before_paddle_can_speak(network, layer):
    network = twice_differentiable(network)
    parameters = trainable_parameters(network)
    loss = _loss(network, parameters, _images(1, 1, 5, 5))
    with pytest.raises(SecondOrderError, match=rf"conv2d_transpose' in the layer .*'{layer}' \(Conv2DTranspose\)"):
        grad(loss, parameters, create_graph=True)
    grad(loss, parameters)


def test_operations_of_a_containers_own_are_the_containers():
    network = twice_differentiable(nn.Sequential(_Unfolding(), nn.Tanh()))
    parameters = trainable_parameters(network)
    with pytest.raises(SecondOrderError, match=r"'strided_slice' in the layer '0' \(_Unfolding\)"):
        grad(_loss(network, parameters, _images(1, 1, 5, 5)), parameters, create_graph=True)
    network = twice_differentiable(_Unfolding())
    parameters = trainable_parameters(network)
    with pytest.raises(SecondOrderError, match=r"'strided_slice' in the layer .*_Unfolding itself"):
        grad(_loss(network, parameters, _images(1, 1, 5, 5)), parameters, create_graph=True)


class _Error(nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        return self.linear(paddle.erf(self.linear(x)))


def test_operations_before_a_sublayer_are_the_containers():
    network = twice_differentiable(nn.Sequential(_Error()))
    parameters = trainable_parameters(network)
    with pytest.raises(SecondOrderError, match=r"'erf' in the layer '0' \(_Error\) has"):
        grad(_loss(network, parameters, paddle.ones([1, 2])), parameters, create_graph=True)


def test_operations_before_a_network_are_not_its_own():
    network = twice_differentiable(nn.Linear(2, 2))
    x = _leaf([[1.0, 2.0]]).astype("float32")
    with pytest.raises(SecondOrderError, match="'atan' has no second derivative"):
        grad(network(paddle.atan(x * 2) * 2).sum(), {"x": x}, create_graph=True)


def test_operations_outside_of_the_networks_are_said_to_be_there():
    network = twice_differentiable(nn.Linear(2, 2))
    parameters = trainable_parameters(network)
    y = functional_call(network, parameters, paddle.ones([1, 2]))
    with pytest.raises(SecondOrderError, match="'erf' has no second derivative"):
        grad(paddle.erf(y).sum(), parameters, create_graph=True)


def test_poolings_of_paddles_own_are_named_when_the_second_derivative_is_taken():
    weight = _leaf(RNG.normal(size=(1, 1, 4, 4)))
    first = grad((F.max_pool2d(weight, 2) ** 2).sum(), {"w": weight}, create_graph=True)
    with pytest.raises(SecondOrderError, match="'pool2d' has no second"):
        grad((first["w"] ** 2).sum(), {"w": weight})


def test_other_errors_pass(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(paddle, "grad", fail)
    x = _leaf([1.0])
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        grad((x * x).sum(), {"x": x})


def test_gradients_work_after_one_has_failed():
    x = _leaf([1.0])
    with pytest.raises(SecondOrderError):
        grad(paddle.erf(x).sum(), {"x": x}, create_graph=True)
    assert grad((x * x).sum(), {"x": x}, create_graph=True)["x"].item() == 2
