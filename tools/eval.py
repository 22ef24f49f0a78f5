"""Evaluate a trained embedder on the episodes that a configuration describes; train nothing.

    python tools/eval.py -c configs/quickstart.yaml -o evaluation.part=validation \\
        --checkpoint output/quickstart/checkpoints/best.safetensors

The results go to a folder of their own below that of the run, such as output/quickstart/eval_best.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import config_parser, read_config, run


def main() -> None:
    """Read the configuration, then evaluate the checkpoint."""
    parser = config_parser(__doc__ or "")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="a run's checkpoint")
    arguments = parser.parse_args()
    config, name = read_config(arguments)
    from ppfsl import pipeline
    from ppfsl.config_file import run_folder
    from ppfsl.files import kind_of

    folder = run_folder(config, name)
    if config.output_dir is None or kind_of(folder / "checkpoints") == "folder":  # a run keeps its own results
        config = config.model_copy(update={"output_dir": str(folder / f"eval_{arguments.checkpoint.stem}")})
    pipeline.run(config, name, arguments.checkpoint)


if __name__ == "__main__":
    run(main, several=True)
