"""What run_paddle.py and run_onnx.py share: whether the model is whole, how pictures are read, what is printed."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image, ImageOps

FOLDER = Path(__file__).parent
Run = Callable[[np.ndarray], np.ndarray]
"""float32 [1, C, S, S] -> [1, classes], or [1, D] where the model gives embeddings."""


def main(open_model: Callable[[], Run], *names: str) -> None:
    """Answer for the pictures on the command line by a model that consists of the files of these names."""
    if not sys.argv[1:]:
        leave(f"name pictures: python {sys.argv[0]} picture.jpg ...")
    about = json.loads((FOLDER / "about.json").read_text(encoding="utf-8"))
    check_files(about, *names)
    run = open_model()
    for name in sys.argv[1:]:
        answer = run(pixels_of(name, about))[0]
        print(name, answer if about["classes"] is None else f"{about['classes'][answer.argmax()]} {answer.max():.1%}")


def check_files(about: dict[str, Any], *names: str) -> None:
    """Leave where about.json is of another model; those of older exports do not say of which."""
    for name in names:
        if "digests" in about:
            digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
            if about["digests"].get(name) != digest:
                leave(f"{name} and about.json in {FOLDER} are of two exports; export again")


def pixels_of(name: str, about: dict[str, Any]) -> np.ndarray:
    """A picture as the model takes it: float32 [1, C, S, S], 0..255."""
    image = ImageOps.exif_transpose(Image.open(name)).convert("RGB" if about["channels"] == 3 else "L")
    image = image.resize([side * about["resize"] // min(image.size) for side in image.size], Image.Resampling.BILINEAR)
    margin = (about["resize"] - about["image_size"]) // 2
    left, top = (round((side - about["resize"]) / 2) + margin for side in image.size)
    image = image.crop((left, top, left + about["image_size"], top + about["image_size"]))
    pixels = np.asarray(image, np.float32).reshape(1, about["image_size"], about["image_size"], about["channels"])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def leave(sentence: str) -> NoReturn:
    """End with a sentence on standard error and the status 2."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)
