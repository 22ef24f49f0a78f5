"""What a command does before its first answer: load a checkpoint, embed a photograph; prints a number of it."""

import argparse
import os
from pathlib import Path

import numpy as np

from benchmarks.programs.common import report
from benchmarks.settings import NETWORKS, PRETRAINED
from ppfsl.runtime import prepare


def main() -> None:
    """`save` writes the checkpoint; `loaded` stops when the embedder is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("until", choices=["save", "loaded", "eager", "engine"])
    arguments = parser.parse_args()
    prepare(int(os.environ["OMP_NUM_THREADS"]))
    import paddle

    from benchmarks.programs.networks_paddle import build
    from ppfsl.inference.engine import embed, to_pixels
    from ppfsl.training.checkpoint import Checkpoint, load_embedder, save_checkpoint, weights_of

    if arguments.until == "save":
        embedder = build(PRETRAINED)
        save_checkpoint(Checkpoint(embedder.architecture, weights_of(embedder)), arguments.file)
        report()
        return
    embedder = load_embedder(arguments.file)
    embedder.eval()
    setting = NETWORKS[PRETRAINED]
    shape = (1, setting.pixels, setting.pixels, setting.channels)
    photograph = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if arguments.until == "engine":
        print(embed(embedder, photograph, np.arange(1))[0, 0])
    elif arguments.until == "eager":
        with paddle.no_grad():
            print(embedder(paddle.to_tensor(to_pixels(photograph))).numpy()[0, 0])
    else:
        print(embedder.dim)


if __name__ == "__main__":
    main()
