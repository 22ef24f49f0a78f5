"""Draw a k-way n-shot support set and its query list, as a JSON file of file names and labels.

    python tools/build_support_set.py -c configs/quickstart.yaml --output support_set.json \\
        -o evaluation.support_set.way=5 -o evaluation.support_set.shot=2
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import config_parser, read_config, run


def main() -> None:
    """Draw it, write it, say what is in it."""
    parser = config_parser(__doc__ or "")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the JSON file to write")
    arguments = parser.parse_args()
    config, _ = read_config(arguments)
    from ppfsl.data.support_set import load_support_set, save_support_set
    from ppfsl.files import check_replaceable
    from ppfsl.pipeline import open_data
    from ppfsl.questions import run_support_set

    check_replaceable(arguments.output, "support set", load_support_set)
    support_set = run_support_set(config, open_data(config))
    save_support_set(support_set, arguments.output)
    names = ", ".join(f"{label} {name}" for label, name in support_set.classes)
    print(
        f"{arguments.output}: {support_set.way}-way {support_set.shot}-shot, {len(support_set.query)} queries: {names}"
    )


if __name__ == "__main__":
    run(main)
