"""Run model.json without ppfsl: pip install paddlepaddle pillow numpy; python run_paddle.py picture.jpg ..."""

import numpy as np
from exported import FOLDER, Run, main


def open_model() -> Run:
    """Pixels to answers, by Paddle Inference."""
    from paddle import inference

    config = inference.Config(str(FOLDER / "model.json"), str(FOLDER / "model.pdiparams"))
    config.disable_glog_info()
    config.enable_mkldnn()
    predictor = inference.create_predictor(config)

    def run(pixels: np.ndarray) -> np.ndarray:
        predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(pixels)
        predictor.run()
        return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()

    return run


main(open_model, "model.json", "model.pdiparams")
