"""Time training steps of ppfsl's networks in Paddle: one process, one setting; prints JSON."""

import argparse
import os
from contextlib import nullcontext

import numpy as np

from benchmarks.programs.common import report, step_seconds
from benchmarks.settings import LEARNING_RATE, NETWORKS, TRAINED


def main() -> None:
    """Forward, backward and an Adam step on random images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=TRAINED)
    parser.add_argument("way", choices=["plain", "kept", "onednn"], help="kept: freed memory stays; onednn: that too")
    parser.add_argument("--steps", type=int, required=True)
    arguments = parser.parse_args()
    from ppfsl import runtime

    if arguments.way != "plain":
        runtime.prepare(int(os.environ["OMP_NUM_THREADS"]))
    import paddle

    from benchmarks.programs.networks_paddle import build
    from ppfsl.onednn import available, fast_operators

    if arguments.way == "onednn" and not available():
        raise SystemExit("oneDNN is not available here")
    operators = fast_operators if arguments.way == "onednn" else nullcontext
    setting = NETWORKS[arguments.network]
    embedder = build(arguments.network)
    embedder.train()
    optimizer = paddle.optimizer.Adam(LEARNING_RATE, parameters=embedder.parameters())
    shape = (setting.batch, setting.channels, setting.pixels, setting.pixels)
    images = paddle.to_tensor(np.random.default_rng(0).integers(0, 256, shape).astype(np.float32))
    losses = []

    def step() -> None:
        with operators():
            loss = embedder.features(images).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(loss.item())

    seconds = step_seconds(step, arguments.steps)
    report(images_per_second=setting.batch / seconds, outputs=losses[:2])


if __name__ == "__main__":
    main()
