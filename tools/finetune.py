"""Build a classifier from a few pictures per class, and keep it in one file.

    python tools/finetune.py --support my_flowers/ --model my_flowers.safetensors
    python tools/finetune.py --support list.csv --model m.safetensors --checkpoint output/quickstart

my_flowers/ holds a folder of pictures per class. A list is CSV with the columns file and label, or
JSON, {"class": ["file", ...], ...}. Without --checkpoint the embedder has ImageNet weights
(configs/own_pictures.yaml).
Then ask it: python tools/predict.py --model my_flowers.safetensors picture.jpg folder/
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import config_parser, read_config, run

_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "own_pictures.yaml"


def main() -> None:
    """Read the pictures, build the classifier, say how it does on them, write it."""
    parser = config_parser(__doc__ or "", default=_CONFIG)
    parser.add_argument("--support", required=True, type=Path, metavar="PATH", help="folder or list of pictures")
    parser.add_argument("--model", required=True, type=Path, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--checkpoint", type=Path, metavar="PATH", help="a run's folder, or a checkpoint of one")
    arguments = parser.parse_args()
    if arguments.model.suffix != ".safetensors":
        parser.error(f"--model {arguments.model} must end with .safetensors")
    config, _ = read_config(arguments)
    from ppfsl.classifier.build import build_classifier
    from ppfsl.classifier.model import read_parts, save_classifier
    from ppfsl.classifier.show import print_summary
    from ppfsl.config_file import refuse_unread
    from ppfsl.files import check_replaceable

    check_replaceable(arguments.model, "classifier of ppfsl", read_parts)
    if arguments.checkpoint is not None:
        refuse_unread(arguments.override)
    built = build_classifier(config, arguments.support, arguments.checkpoint)
    save_classifier(built.classifier, arguments.model)
    print_summary(built, arguments.model)


if __name__ == "__main__":
    run(main)
