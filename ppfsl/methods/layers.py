"""What methods learn beside the embedder, as checkpoints describe it: {"name": ..., "arguments": {...}}."""

from typing import Any

from paddle import nn

from ppfsl.backbones.embedder import initialize
from ppfsl.methods.learned_optimizer import LearnedOptimizer
from ppfsl.methods.lstm_meta_learner import LstmTaskHead
from ppfsl.methods.matching import FullContext
from ppfsl.methods.memory_augmented import MemoryNetwork
from ppfsl.methods.meta_baseline import LearnedScale
from ppfsl.methods.relation import RelationModule
from ppfsl.methods.siamese import PairHead
from ppfsl.methods.task_network import TaskHead

_LAYERS: dict[str, type[nn.Layer]] = {
    "siamese": PairHead,
    "matching": FullContext,
    "relation": RelationModule,
    "meta_baseline": LearnedScale,
    "task": TaskHead,
    "memory_augmented": MemoryNetwork,
    "lstm_meta_learner": LstmTaskHead,
    "learned_optimizer": LearnedOptimizer,
}


def build_layer(description: dict[str, Any], seed: int) -> nn.Layer:
    """A layer whose weights are a pure function of its description and the seed.

    Args:
        description: {"name": of the kind, "arguments": of the layer}.
        seed: a non-negative integer.

    Raises:
        KeyError, TypeError: when it is no such description.
    """
    layer = _LAYERS[description["name"]](**description["arguments"])
    initialize(layer, seed)
    return layer


def describe(layer: nn.Layer) -> dict[str, Any]:
    """What `build_layer` builds the like of the layer from."""
    name = next(name for name, kind in _LAYERS.items() if type(layer) is kind)
    return {"name": name, "arguments": layer.arguments}
