"""Evaluate a trained embedder on the episodes that a configuration describes; train nothing.

    python tools/eval.py -c configs/quickstart.yaml -o evaluation.part=validation \\
        --checkpoint output/quickstart/checkpoints/best.safetensors

The results go to a folder of their own below that of the checkpoint's run, such as
output/quickstart/eval_best, or to -o output_dir=FOLDER. Where results on other pictures lie
(another data set, split or part of the classes), nothing is written.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import config_parser, read_config, run


def main() -> None:
    """Read the configuration, then evaluate the checkpoint."""
    parser = config_parser(__doc__ or "")
    parser.add_argument(
        "--checkpoint", required=True, type=Path, metavar="PATH", help="a checkpoint, or a run's folder"
    )
    arguments = parser.parse_args()
    config, name = read_config(arguments)
    from ppfsl import pipeline

    pipeline.run(config, name, arguments.checkpoint)


if __name__ == "__main__":
    run(main, several=True, resumes=True)
