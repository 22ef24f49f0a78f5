"""Do two pictures show the same class? Prints their similarity, the threshold and the answer.

    python tools/verify.py --run output/omniglot/siamese a.jpg b.jpg

The run's configuration must ask for `verification`, which chooses the threshold on validation
classes.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import Parser, run


def main() -> None:
    """Parse the command line, compare, print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs=2, type=Path, metavar="PICTURE", help="an image file")
    parser.add_argument("--run", required=True, type=Path, metavar="FOLDER", help="directory of a finished run")
    parser.add_argument("--threshold", type=float, metavar="NUMBER", help="in place of the run's own")
    arguments = parser.parse_args()
    from ppfsl.runtime import prepare
    from ppfsl.threads import choose_threads

    prepare(choose_threads("auto"))
    from ppfsl.inference.compare import compare

    left, right = arguments.pictures
    answer = compare(arguments.run, left, right, arguments.threshold)
    print(f"{answer.similarity_name}: {answer.similarity:.4f}, threshold {answer.threshold:.4f}")
    print("same" if answer.same else "different")


if __name__ == "__main__":
    run(main)
