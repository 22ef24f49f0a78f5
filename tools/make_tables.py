"""Write docs/results.md and docs/results_zh.md from the result files below results/.

python tools/make_tables.py
python tools/make_tables.py --results results --output docs/results.md
python tools/make_tables.py --add output/omniglot/siamese results/omniglot/siamese
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import Parser, run

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write the page in both languages and say where it is."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results", metavar="FOLDER", help="rows of results")
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "docs" / "results.md",
        metavar="FILE",
        help="the page in English; the Chinese one goes beside it, with _zh in its name",
    )
    parser.add_argument(
        "--add", nargs=2, type=Path, metavar=("RUN", "ROW"), help="first copy the result of a run to a row's folder"
    )
    arguments = parser.parse_args()
    from ppfsl.reporting.tables import add_row, chinese_page, make_tables

    if arguments.add:
        add_row(*arguments.add)
    pages = f"{arguments.output}, {chinese_page(arguments.output)}"
    print(f"{pages}: {make_tables(arguments.results, arguments.output)} sections")


if __name__ == "__main__":
    run(main)
