"""Write a classifier, or a run's embedder, as a model that runs without ppfsl.

    python tools/export.py --model my_flowers.safetensors --output exported/
    python tools/export.py --model my_flowers.safetensors --output exported/ --format onnx
    python tools/export.py --checkpoint output/quickstart --output exported/

The folder holds the model (Paddle Inference: model.json and model.pdiparams; ONNX: model.onnx),
about.json, and a short script that runs it. ONNX needs paddle2onnx and onnxruntime.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import Parser, run


def main() -> None:
    """Read the classifier or the checkpoint, export, name the files."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, metavar="FILE", help="a classifier that tools/finetune.py built")
    source.add_argument("--checkpoint", type=Path, metavar="PATH", help="a run's folder, or a checkpoint of one")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="where to write")
    parser.add_argument("--format", choices=["paddle", "onnx", "both"], default="paddle", help="default: paddle")
    arguments = parser.parse_args()
    from ppfsl.runtime import prepare

    prepare(1)
    from ppfsl.classifier.build import from_checkpoint
    from ppfsl.classifier.export import Format, export
    from ppfsl.classifier.model import load_classifier

    formats: list[Format] = ["paddle", "onnx"] if arguments.format == "both" else [arguments.format]
    if arguments.model is not None:
        classifier = load_classifier(arguments.model)
        files = export(classifier, classifier.resize, arguments.output, formats)
    else:
        trained = from_checkpoint(arguments.checkpoint, validation=False)
        files = export(trained.embedder, trained.resize, arguments.output, formats)
    for file in files:
        print(file)


if __name__ == "__main__":
    run(main)
