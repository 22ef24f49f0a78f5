"""Run model.onnx without ppfsl: pip install onnxruntime pillow numpy; python run_onnx.py picture.jpg ..."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

here = Path(__file__).parent
about = json.loads((here / "about.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
for name in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(name)).convert("RGB" if about["channels"] == 3 else "L")
    image = image.resize([side * about["resize"] // min(image.size) for side in image.size], Image.Resampling.BILINEAR)
    margin = (about["resize"] - about["image_size"]) // 2
    left, top = (round((side - about["resize"]) / 2) + margin for side in image.size)
    image = image.crop((left, top, left + about["image_size"], top + about["image_size"]))
    pixels = np.asarray(image, np.float32).reshape(1, about["image_size"], about["image_size"], about["channels"])
    answer = session.run(None, {session.get_inputs()[0].name: pixels.transpose(0, 3, 1, 2)})[0][0]
    print(name, answer if about["classes"] is None else f"{about['classes'][answer.argmax()]} {answer.max():.1%}")
