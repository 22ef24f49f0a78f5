import copy
import threading

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import _C_ops, nn
from paddle.nn.functional import max_pool2d
from paddle.vision.models.resnet import BasicBlock

from ppfsl.autodiff import (
    call_with_statistics,
    functional_call,
    grad,
    trainable_parameters,
    twice_differentiable,
    twice_differentiable_operators,
)
from ppfsl.backbones.conv4 import Conv4
from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.backbones.mobilenet_v1 import MobileNetV1
from ppfsl.backbones.resnet12 import ResNet12, _Block
from ppfsl.backbones.resnet18 import ResNet18

RNG = np.random.default_rng(4)
IMAGES = RNG.normal(size=(4, 3, 16, 16))
LABELS = paddle.to_tensor([0, 1, 2, 1])


def _cross_entropy(logits):
    """Paddle's own loss, in the context: what a user's code does."""
    with twice_differentiable_operators():
        return F.cross_entropy(logits, LABELS)


def _squares(features):
    return (features * features * paddle.linspace(0.5, 1.5, features.shape[-1], dtype="float64")).sum()


class _ByHand(nn.Layer):
    """Everything that a forward pass may call by name."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2D(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.linear = nn.Linear(4 * 16, 3)

    def forward(self, x):
        y = max_pool2d(F.relu(self.norm(self.convolution(x))), 2)
        y = F.softmax(F.adaptive_max_pool2d(y, 4).flatten(2), axis=-1)
        y = paddle.flatten(F.layer_norm(y, [16]), 1)
        return F.log_softmax(self.linear(F.normalize(y, axis=1)))


NETWORKS = {
    "conv4": lambda: nn.Sequential(Conv4(width=4), nn.Linear(4, 3)),
    "sequential": lambda: nn.Sequential(
        nn.Conv2D(3, 4, 3, stride=2, padding=1),
        nn.BatchNorm2D(4),
        nn.InstanceNorm2D(4),
        nn.LeakyReLU(0.1),
        nn.MaxPool2D(3, 2, padding=1, ceil_mode=True),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(),
        nn.LayerNorm(4),
        nn.Linear(4, 3),
        nn.Softmax(),
    ),
    "by hand": _ByHand,
    "resnet18's stem and blocks": lambda: nn.Sequential(
        nn.Conv2D(3, 4, 7, stride=2, padding=3, bias_attr=False),
        nn.BatchNorm2D(4),
        nn.ReLU(),
        nn.MaxPool2D(3, 2, 1),
        BasicBlock(4, 4),
        BasicBlock(4, 6, 2, nn.Sequential(nn.Conv2D(4, 6, 1, 2, bias_attr=False), nn.BatchNorm2D(6))),
        nn.AdaptiveAvgPool2D(1),
        nn.Flatten(1),
        nn.Linear(6, 3),
    ),
}


def _narrow_resnet12():
    network = ResNet12()
    network.blocks = nn.Sequential(_Block(3, 4), _Block(4, 5), _Block(5, 6), _Block(6, 3))
    return network


NETWORKS["resnet12, narrow"] = _narrow_resnet12


@pytest.mark.parametrize("name", NETWORKS)
def test_second_derivatives_of_networks(check_network, name):
    check_network(NETWORKS[name](), IMAGES, _cross_entropy)


@pytest.mark.parametrize("name", NETWORKS)
def test_second_derivatives_in_evaluation_mode(check_network, name):
    network = NETWORKS[name]()
    network.eval()
    check_network(network, IMAGES, _cross_entropy)


@pytest.mark.parametrize("projection", [None, 5])
def test_second_derivatives_of_an_embedder(check_network, projection):
    options = (("width", 4),)
    embedder = build_embedder(Architecture("conv4", 16, projection=projection, options=options), 0)
    check_network(embedder, (IMAGES * 50 + 128).clip(0, 255), _squares)


@pytest.mark.parametrize(
    "requested",
    [
        ["0.blocks.0.0.weight"],  # the first convolution alone
        ["0.blocks.3.0.weight"],  # the last convolution alone
        ["1.weight", "1.bias"],  # the head
        ["0.blocks.3.0.weight", "0.blocks.3.1.weight", "0.blocks.3.1.bias", "1.weight", "1.bias"],
        ["0.blocks.0.1.weight", "0.blocks.2.1.bias"],  # some of the batch norms
        ["0.blocks.1.0.weight"],  # one in the middle
    ],
)
def test_second_derivatives_where_some_parameters_are_requested(check_network, requested):
    check_network(NETWORKS["conv4"](), IMAGES, _cross_entropy, requested)


def test_second_derivatives_of_the_whole_resnet18(check_network):
    requested = ["conv1.weight", "bn1.weight", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias"]
    check_network(ResNet18(), RNG.normal(size=(4, 3, 40, 40)), _squares, requested, step=1e-8)


def test_second_derivatives_of_depthwise_convolutions(check_network):
    network = MobileNetV1(scale=0.25)
    parts = nn.Sequential(network.conv1, *network.dwsl[:2], nn.AdaptiveAvgPool2D(1), nn.Flatten())
    check_network(parts, IMAGES, _squares)
    check_network(parts, IMAGES, _squares, ["0.0.weight", "2._depthwise_conv.0.weight"])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_statistics_are_the_networks(name, training):
    network = NETWORKS[name]()
    network.train() if training else network.eval()
    same = copy.deepcopy(network)
    images = paddle.to_tensor(IMAGES.astype(np.float32))
    for _ in range(2):
        np.testing.assert_allclose(twice_differentiable(same)(images).numpy(), network(images).numpy(), atol=1e-5)
    for (key, value), (_, other) in zip(network.state_dict().items(), same.state_dict().items(), strict=True):
        np.testing.assert_allclose(other.numpy(), value.numpy(), atol=1e-5, err_msg=key)


def test_without_gradients_it_is_paddles_own_to_the_last_bit():
    network = NETWORKS["conv4"]()
    images = paddle.to_tensor(IMAGES.astype(np.float32))
    with paddle.no_grad():
        np.testing.assert_array_equal(twice_differentiable(network)(images).numpy(), network(images).numpy())


def test_it_shares_everything_with_the_layer():
    network = Conv4(width=4)
    twice = twice_differentiable(network)
    assert isinstance(twice, Conv4)
    assert type(twice).__name__ == "Conv4"
    assert type(network) is Conv4
    assert [(n, id(p)) for n, p in twice.named_parameters()] == [(n, id(p)) for n, p in network.named_parameters()]
    assert list(twice.state_dict()) == list(network.state_dict())
    assert twice.last_block() == network.last_block()
    twice.eval()
    assert not network.training
    assert twice_differentiable(twice) is twice
    assert copy.deepcopy(twice)(paddle.ones([1, 3, 16, 16])).shape == [1, 4]


def test_statistics_of_a_functional_call_are_returned_and_not_kept():
    network = Conv4(width=4)
    twice = twice_differentiable(network)
    images = paddle.to_tensor(IMAGES.astype(np.float32))
    _, statistics = call_with_statistics(twice, trainable_parameters(twice), images)
    assert not network.blocks[0][1]._mean.numpy().any()
    network(images)
    assert set(statistics) == {f"blocks.{i}.1.{kind}" for i in range(4) for kind in ("_mean", "_variance")}
    for name, value in statistics.items():
        np.testing.assert_allclose(value.numpy(), dict(network.named_parameters())[name].numpy(), atol=1e-6)


def _operators():
    return {name: getattr(_C_ops, name) for name in dir(_C_ops) if not name.startswith("__")}


def test_paddle_is_itself_again_afterwards():
    before = _operators()
    with twice_differentiable_operators():
        assert _operators() != before
        with twice_differentiable_operators():
            pass
        assert _operators() != before
    assert _operators() == before
    with pytest.raises(ValueError, match="NCHW"):  # whatever Paddle complains of
        twice_differentiable(nn.MaxPool2D(2, data_format="NCWH"))(paddle.ones([1, 1, 4, 4]))
    assert _operators() == before


def test_other_threads_keep_paddles_operators():
    x = paddle.to_tensor(IMAGES, stop_gradient=False)
    names = {}

    def work():
        names["other"] = x.flatten(1).grad_fn.name()

    with twice_differentiable_operators():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        names["this"] = x.flatten(1).grad_fn.name()
    assert names["other"].startswith("Flatten")
    assert names["this"].startswith("Reshape")
    assert x.flatten(1).grad_fn.name().startswith("Flatten")


def test_threads_that_leave_at_different_times():
    entered, leave = threading.Event(), threading.Event()
    x = paddle.to_tensor(IMAGES, stop_gradient=False)

    def work():
        with twice_differentiable_operators():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait(10)
    with twice_differentiable_operators():
        leave.set()
        thread.join()
        assert x.flatten(1).grad_fn.name().startswith("Reshape")
    assert x.flatten(1).grad_fn.name().startswith("Flatten")


def test_recording_the_layers_leaves_no_hooks():
    network = Conv4(width=4)
    twice = twice_differentiable(network)
    images = paddle.to_tensor(IMAGES.astype(np.float32))
    with pytest.raises(ValueError, match="channel"):
        twice(images[:, :2])
    twice(images)
    assert not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in network.sublayers(True))


def test_dropout_draws_the_same_masks():
    network = nn.Sequential(nn.Linear(8, 50), nn.Dropout(0.5), nn.Linear(50, 2))
    x = paddle.ones([3, 8])
    outputs = []
    for layer in (network, twice_differentiable(network)):
        paddle.seed(11)
        outputs.append(layer(x).numpy())
    np.testing.assert_allclose(*outputs, rtol=1e-5)


def test_it_trains():
    """A transformed network under an ordinary optimizer takes the ordinary steps."""
    networks = [Conv4(width=4)]
    networks.append(copy.deepcopy(networks[0]))
    images = paddle.to_tensor(IMAGES.astype(np.float32))
    for network, transform in zip(networks, (lambda layer: layer, twice_differentiable), strict=True):
        optimizer = paddle.optimizer.SGD(0.1, parameters=network.parameters())
        for _ in range(2):
            (transform(network)(images) ** 2).mean().backward()
            optimizer.step()
            optimizer.clear_grad()
    for first, second in zip(*(network.parameters() for network in networks), strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), atol=1e-4)


def test_a_frozen_body_costs_no_gradient():
    network = nn.Sequential(Conv4(width=4), nn.Linear(4, 3))
    for parameter in network[0].parameters():
        parameter.stop_gradient = True
    twice = twice_differentiable(network)
    images = paddle.to_tensor(IMAGES.astype(np.float32))
    assert list(trainable_parameters(twice)) == ["1.weight", "1.bias"]
    loss = _cross_entropy(functional_call(twice, {}, images))
    grad(loss, trainable_parameters(twice), create_graph=True)
