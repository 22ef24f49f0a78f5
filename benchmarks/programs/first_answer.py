"""What a command does before its first answer: load a checkpoint, embed a photograph; prints a number of it.

`save` prepares these commands, and `tools/predict.py`: a checkpoint, a classifier beside it and a photograph.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.programs.common import report
from benchmarks.settings import NETWORKS, PRETRAINED
from ppfsl.runtime import prepare


def main() -> None:
    """`loaded` stops when the embedder is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("until", choices=["save", "loaded", "eager", "engine"])
    arguments = parser.parse_args()
    prepare(int(os.environ["OMP_NUM_THREADS"]))
    import paddle

    from benchmarks.programs.networks_paddle import build
    from ppfsl.backbones.weights import weights_of
    from ppfsl.inference.engine import embed, to_pixels
    from ppfsl.training.checkpoint import Checkpoint, load_embedder, save_checkpoint

    setting = NETWORKS[PRETRAINED]
    shape = (1, setting.pixels, setting.pixels, setting.channels)
    photograph = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    if arguments.until == "save":
        embedder = build(PRETRAINED)
        save_checkpoint(Checkpoint(embedder.architecture, weights_of(embedder)), arguments.file)
        Image.fromarray(photograph[0]).save(arguments.file.with_suffix(".png"))
        _save_classifier(arguments.file, np.concatenate([photograph, 255 - photograph]))
        report()
        return
    embedder = load_embedder(arguments.file)
    if arguments.until == "engine":
        print(embed(embedder, photograph, np.arange(1))[0, 0])
    elif arguments.until == "eager":
        with paddle.no_grad():
            print(embedder(paddle.to_tensor(to_pixels(photograph))).numpy()[0, 0])
    else:
        print(embedder.dim)


def _save_classifier(checkpoint: Path, photographs: np.ndarray) -> None:
    """A classifier of two classes, from a photograph of each, as `classifier.safetensors` beside a checkpoint."""
    from ppfsl.classifier.build import SupportSet, classifier_from, from_checkpoint
    from ppfsl.classifier.model import THUMBNAIL, save_classifier
    from ppfsl.config import ClassMeanConfig
    from ppfsl.data.decode import thumbnails_of
    from ppfsl.inference.engine import embed

    source = from_checkpoint(checkpoint)
    given = SupportSet(
        class_names=("one", "other"),
        labels=np.arange(2),
        embeddings=embed(source.embedder, photographs, np.arange(2)),
        thumbnails=thumbnails_of(photographs, THUMBNAIL),
        files=("one.png", "other.png"),
    )
    built = classifier_from(source, ClassMeanConfig(name="class_mean"), given)
    save_classifier(built.classifier, checkpoint.with_name("classifier.safetensors"))


if __name__ == "__main__":
    main()
