"""What Paddle lacks for gradients of gradients, as in MAML: functional calls, exact second derivatives, a self-test.

network = twice_differentiable(Conv4(width=32))
weights = trainable_parameters(network)
loss = cross_entropy(functional_call(network, weights, support), labels)
gradients = grad(loss, weights, create_graph=True)
fast = {name: weight - rate * gradients[name] for name, weight in weights.items()}
cross_entropy(functional_call(network, fast, query), query_labels).backward()
"""

from ppfsl.autodiff.call import call_with_statistics, functional_call, substituted, trainable_parameters
from ppfsl.autodiff.gradient import SecondOrderError, grad
from ppfsl.autodiff.native import twice_differentiable_operators
from ppfsl.autodiff.normalization import batch_norm, group_norm, instance_norm, layer_norm
from ppfsl.autodiff.operators import (
    cross_entropy,
    dropout,
    flatten,
    log_softmax,
    logsumexp,
    max_pool2d,
    nll_loss,
    norm,
    normalize,
    softmax,
)
from ppfsl.autodiff.selftest import require_second_order, self_test
from ppfsl.autodiff.statistics import first_rows_statistics
from ppfsl.autodiff.transform import twice_differentiable

__all__ = [
    "SecondOrderError",
    "batch_norm",
    "call_with_statistics",
    "cross_entropy",
    "dropout",
    "first_rows_statistics",
    "flatten",
    "functional_call",
    "grad",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "log_softmax",
    "logsumexp",
    "max_pool2d",
    "nll_loss",
    "norm",
    "normalize",
    "require_second_order",
    "self_test",
    "softmax",
    "substituted",
    "trainable_parameters",
    "twice_differentiable",
    "twice_differentiable_operators",
]
