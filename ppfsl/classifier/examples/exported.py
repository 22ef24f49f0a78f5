"""What run_paddle.py and run_onnx.py share: whether the model is whole, how pictures are read, what is printed."""

import hashlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image, ImageOps

FOLDER = Path(__file__).parent
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
Run = Callable[[np.ndarray], np.ndarray]
"""float32 [1, C, S, S] -> [1, classes], or [1, D] where the model gives embeddings."""


def main(open_model: Callable[[], Run], *names: str) -> None:
    """Answer for the pictures on the command line by a model that consists of the files of these names."""
    end_at_once()
    if not sys.argv[1:] or sys.argv[1] in ("-h", "--help"):
        leave(f"name pictures: python {sys.argv[0]} picture.jpg ...")
    warnings.filterwarnings("ignore", message="No ccache found")  # of Paddle, on its own installation
    try:
        about = json.loads((FOLDER / "about.json").read_text(encoding="utf-8"))
        check_files(about, *names)
    except (OSError, ValueError) as error:
        leave(f"the model cannot be read ({error}); export it again, or copy all of its folder")
    # What libraries print goes to standard error, the answers alone to standard output.
    output = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: PTH123, SIM115
    os.dup2(2, 1)
    try:
        run, unreadable = open_model(), 0
    except ImportError as error:
        leave(f"{error}; the first line of {sys.argv[0]} says what to install")
    for name in sys.argv[1:]:
        try:
            pixels = pixels_of(name, about)
        except Exception as error:  # decoders raise whatever they like
            print(f"error: {name} is not a readable picture ({error})", file=sys.stderr)
            unreadable += 1
            continue
        answer = run(pixels)[0]
        words = answer if about["classes"] is None else f"{about['classes'][answer.argmax()]} {answer.max():.1%}"
        print(name, words, file=output, flush=True)
    sys.exit(2 if unreadable else 0)


def end_at_once() -> None:
    """End without a traceback where Ctrl-C is pressed, and where nobody reads the answers any more."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background jobs ignore Ctrl-C
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "SIGPIPE"):  # not on Windows
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def check_files(about: dict[str, Any], *names: str) -> None:
    """Leave where about.json is of another model; those of older exports do not say of which."""
    for name in names:
        if "digests" in about:
            digest = hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
            if about["digests"].get(name) != digest:
                leave(f"{name} and about.json in {FOLDER} are of two exports; export again")


def pixels_of(name: str, about: dict[str, Any]) -> np.ndarray:
    """A picture as the model takes it: float32 [1, C, S, S], 0..255."""
    with Image.open(name, formats=FORMATS) as file:
        if file.mode == "I" and file.format == "TIFF":  # of PNG and PPM, this is 16 bits
            raise ValueError("32-bit or signed grey; convert it to 8 or unsigned 16 bits")
        image = as_mode(ImageOps.exif_transpose(file), "RGB" if about["channels"] == 3 else "L")
    image = image.resize([side * about["resize"] // min(image.size) for side in image.size], Image.Resampling.BILINEAR)
    margin = (about["resize"] - about["image_size"]) // 2
    left, top = (round((side - about["resize"]) / 2) + margin for side in image.size)
    image = image.crop((left, top, left + about["image_size"], top + about["image_size"]))
    pixels = np.asarray(image, np.float32).reshape(1, about["image_size"], about["image_size"], about["channels"])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def as_mode(image: Image.Image, mode: str) -> Image.Image:
    """8 bits a channel; 16-bit grey is scaled, which Pillow would clip, and transparency laid on white."""
    if image.mode == "F":
        raise ValueError("floating-point grey; convert it to 8 or 16 bits")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def leave(sentence: str) -> NoReturn:
    """End with a sentence on standard error and the status 2."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)
