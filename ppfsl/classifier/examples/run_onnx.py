"""Run model.onnx without ppfsl: pip install onnxruntime pillow numpy; python run_onnx.py picture.jpg ..."""

import numpy as np
from exported import FOLDER, Run, main


def open_model() -> Run:
    """Pixels to answers, by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])

    def run(pixels: np.ndarray) -> np.ndarray:
        return session.run(None, {session.get_inputs()[0].name: pixels})[0]

    return run


main(open_model, "model.onnx")
