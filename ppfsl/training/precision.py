"""Mixed precision on GPUs (Micikevicius et al. 2018): networks in 16 bits where that is safe, losses in 32."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import paddle
from paddle.optimizer import Optimizer

_FIRST, _PATIENCE = 2.0**15, 1000


class Precision:
    """How a stage computes its networks.

    bfloat16 where the GPU has it (compute capability 8.0); else float16, whose gradients would vanish below 6e-8: the
    loss is multiplied by a number that halves whenever a gradient overflows (that step is skipped), and doubles after
    1000 steps in which none did. Paddle's own GradScaler ends in a TypeError at the first overflow (3.3, numpy 2.4).

    Args:
        mixed: whether networks run in 16 bits (Paddle's level O1); False: everything is float32.
    """

    def __init__(self, mixed: bool) -> None:
        self._dtype = None
        if mixed:
            self._dtype = "bfloat16" if paddle.amp.is_bfloat16_supported() else "float16"
        self._scale, self._good = (_FIRST if self._dtype == "float16" else 1.0), 0

    def network(self) -> AbstractContextManager[None]:
        """The context in which networks are called."""
        if self._dtype is None:
            return nullcontext()
        return paddle.amp.auto_cast(level="O1", dtype=self._dtype)

    def backward(self, loss: paddle.Tensor) -> None:
        """Add the gradients of the loss, or of a multiple of it, to the parameters'."""
        (loss * self._scale if self._dtype == "float16" else loss).backward()

    def step(self, optimizer: Optimizer, parameters: Sequence[paddle.Tensor]) -> None:
        """Let the optimizer make its step with the gradients of the loss itself, unless one has overflowed."""
        if self._dtype == "float16" and not self._unscale([p.grad for p in parameters if p.grad is not None]):
            return
        optimizer.step()

    def _unscale(self, gradients: Sequence[paddle.Tensor]) -> bool:
        """Divide the gradients by the scale, then find the next scale; whether all gradients are finite."""
        with paddle.no_grad():
            finite = all(bool(paddle.isfinite(gradient).all()) for gradient in gradients)
            for gradient in gradients if finite else ():
                gradient.set_value(gradient / self._scale)
        self._good = self._good + 1 if finite else 0
        if not finite:
            self._scale /= 2
        elif self._good == _PATIENCE:
            self._scale, self._good = self._scale * 2, 0
        return finite

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint needs to go on: nothing but for float16."""
        if self._dtype != "float16":
            return {}
        return {"scale": np.asarray(self._scale), "good": np.asarray(self._good)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Undo `state`; a run that goes on with another precision starts with a scale of its own."""
        if self._dtype == "float16" and state:
            self._scale, self._good = float(state["scale"]), int(state["good"])
