"""Time training steps of ppfsl's networks in Paddle: one process, one setting; prints JSON."""

import argparse
import json
import time
from contextlib import nullcontext

from benchmarks.settings import NETWORKS, STEPS


def main() -> None:
    """Forward, backward and an Adam step on random images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("way", choices=["plain", "kept", "onednn"], help="kept: freed memory stays; onednn: that too")
    arguments = parser.parse_args()
    from ppfsl import runtime

    if arguments.way == "plain":
        runtime.keep_freed_memory = lambda: False
    runtime.prepare(1)
    import numpy as np
    import paddle

    from ppfsl.backbones.embedder import Architecture, build_embedder
    from ppfsl.onednn import available, fast_operators

    if arguments.way == "onednn" and not available():
        raise SystemExit("oneDNN is not available here")
    operators = fast_operators if arguments.way == "onednn" else nullcontext
    setting = NETWORKS[arguments.network]
    architecture = Architecture(setting.backbone, setting.pixels, setting.channels, options=setting.options)
    embedder = build_embedder(architecture, 0)
    embedder.train()
    optimizer = paddle.optimizer.Adam(1e-4, parameters=embedder.parameters())
    shape = (setting.batch, setting.channels, setting.pixels, setting.pixels)
    images = paddle.to_tensor(np.random.default_rng(0).integers(0, 256, shape).astype(np.float32))
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        with operators():
            loss = embedder.features(images).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"images_per_second": setting.batch / min(seconds)}))


if __name__ == "__main__":
    main()
