"""Put runs side by side: accuracies on the same episodes, paired differences with 95 % intervals.

    python tools/compare.py output/omniglot/prototypical output/omniglot/matching
    python tools/compare.py results/flowers102/*_conv4 --markdown

The first run is what the others are compared with. Runs may hold several evaluations each; those
that posed the same episodes share a table.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import Parser, run


def main() -> None:
    """Read the results, compare, print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders that hold a result.json")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as Markdown tables")
    form.add_argument("--json", action="store_true", help="as JSON")
    arguments = parser.parse_args()
    from ppfsl.reporting.side_by_side import compare_runs, print_tasks, to_markdown

    tasks = compare_runs(arguments.runs)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(task) for task in tasks], ensure_ascii=False, indent=1))
    elif arguments.markdown:
        print(to_markdown(tasks), end="")
    else:
        print_tasks(tasks, sys.stdout)


if __name__ == "__main__":
    run(main)
