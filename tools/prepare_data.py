"""Download a data set's official files, check them and put them where the readers look."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a plain checkout needs no installation

from ppfsl.cli import Parser, run


def main() -> None:
    """Parse the command line and fetch."""
    from ppfsl.data import flowers102, omniglot
    from ppfsl.data.download import fetch
    from ppfsl.data.roots import data_root

    official = {"flowers102": flowers102.OFFICIAL_FILES, "omniglot": omniglot.OFFICIAL_FILES}
    parser = Parser(description=__doc__)
    parser.add_argument("dataset", choices=sorted(official))
    parser.add_argument("--root", help="data root (default: the variable PPFSL_DATA, else ~/.cache/ppfsl)")
    arguments = parser.parse_args()
    fetch(official[arguments.dataset], data_root(arguments.root) / arguments.dataset)


if __name__ == "__main__":
    run(main, resumes=True)
