"""Label pictures by a classifier that tools/finetune.py built.

    python tools/predict.py --model my_flowers.safetensors picture.jpg holidays/
    python tools/predict.py --model my_flowers.safetensors holidays/ --csv > labels.csv
    python tools/predict.py --model my_flowers.safetensors picture.jpg --nearest 3 --json
    python tools/predict.py --model my_flowers.safetensors holidays/ --html answers.html

"none of these?" marks pictures that are less similar to every class than the classifier's
threshold. A picture that cannot be read is named, the others are labelled, and the exit status is
2 (docs/own_pictures.md).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ppfsl.cli import Parser, device, run


def main() -> None:
    """Open the classifier, ask it, print."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a picture, or a folder of them")
    parser.add_argument("--model", required=True, type=Path, metavar="FILE", help="the classifier")
    parser.add_argument("--nearest", type=int, default=0, metavar="N", help="name the N most similar support pictures")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="an object a line")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="comma-separated values")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures, too (--nearest 3)")
    parser.add_argument("--no-cache", action="store_true", help="keep no embeddings of the pictures for another time")
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, gpu or gpu:N")
    parser.set_defaults(form="table")
    arguments = parser.parse_args()
    if arguments.nearest < 0:
        parser.error(f"--nearest {arguments.nearest} is negative")
    if arguments.html and arguments.html.suffix.lower() not in (".html", ".htm"):
        parser.error(f"--html {arguments.html} must end with .html or .htm")
    from ppfsl.runtime import prepare
    from ppfsl.threads import choose_threads

    prepare(choose_threads("auto"))
    from ppfsl.classifier.gallery import NEAREST, write_gallery
    from ppfsl.classifier.model import load_classifier
    from ppfsl.classifier.pictures import find_pictures
    from ppfsl.classifier.predict import Labeller
    from ppfsl.classifier.show import complaint, print_answers
    from ppfsl.data.roots import cache_root
    from ppfsl.errors import UserError
    from ppfsl.files import check_writable
    from ppfsl.inference.cache import NO_CACHE, EmbeddingCache
    from ppfsl.progress import say
    from ppfsl.runtime import choose_device

    files = find_pictures(arguments.pictures)
    if arguments.html:
        check_writable(arguments.html)  # before a thousand pictures are labelled
    choose_device(arguments.device)
    classifier = load_classifier(arguments.model)
    nearest = arguments.nearest or (NEAREST if arguments.html else 0)
    cache = NO_CACHE if arguments.no_cache else EmbeddingCache.in_folder(cache_root(None))
    labeller = Labeller(classifier, nearest, arguments.html is not None, len(files), cache)
    answers = print_answers(labeller.label(files), arguments.form, nearest=arguments.nearest > 0)
    if arguments.html:
        write_gallery(answers, classifier, arguments.html)
        say(f"page: {arguments.html}")
    if problem := complaint(answers):
        raise UserError(problem)


if __name__ == "__main__":
    run(main)
