"""Run model.json without ppfsl: pip install paddlepaddle pillow numpy; python run_paddle.py picture.jpg ..."""

import json
import sys
from pathlib import Path

import numpy as np
from paddle import inference
from PIL import Image, ImageOps

here = Path(__file__).parent
about = json.loads((here / "about.json").read_text(encoding="utf-8"))
config = inference.Config(str(here / "model.json"), str(here / "model.pdiparams"))
config.enable_mkldnn()
predictor = inference.create_predictor(config)
for name in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(name)).convert("RGB" if about["channels"] == 3 else "L")
    image = image.resize([side * about["resize"] // min(image.size) for side in image.size], Image.Resampling.BILINEAR)
    margin = (about["resize"] - about["image_size"]) // 2
    left, top = (round((side - about["resize"]) / 2) + margin for side in image.size)
    image = image.crop((left, top, left + about["image_size"], top + about["image_size"]))
    pixels = np.asarray(image, np.float32).reshape(1, about["image_size"], about["image_size"], about["channels"])
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(pixels.transpose(0, 3, 1, 2).copy())
    predictor.run()
    answer = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()[0]
    print(name, answer if about["classes"] is None else f"{about['classes'][answer.argmax()]} {answer.max():.1%}")
