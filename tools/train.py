"""Run everything that a configuration describes, from raw data to the report.

    python tools/train.py -c configs/quickstart.yaml
    python tools/train.py -c configs/flowers102/article.yaml -o seed=1 -o output_dir=output/seed1

What is already done is skipped, what was interrupted is resumed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import config_parser, read_config, run


def main() -> None:
    """Read the configuration, then run it."""
    config, name = read_config(config_parser(__doc__ or "").parse_args())
    from ppfsl import pipeline

    pipeline.run(config, name)


if __name__ == "__main__":
    run(main, several=True, resumes=True)
