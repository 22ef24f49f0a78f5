"""How cost grows with images and classes: a table and a picture."""

from pathlib import Path
from typing import Any

from benchmarks.compare import ROOT, Benchmark, Case, Found, Options, Variant
from benchmarks.summary import Spread

PICTURE = ROOT / "docs" / "images" / "scaling.png"
_EMBEDDINGS = "embeddings"


def _sizes(options: Options) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Images to embed; images and classes to evaluate."""
    if options.quick:
        return (100, 200), ((200, 20), (400, 20), (400, 40))
    evaluated = ((1_000, 100), (10_000, 100), (100_000, 100), (10_000, 1_000), (100_000, 1_000), (100_000, 10_000))
    return (1_000, 10_000, 100_000), evaluated


def _cases(options: Options) -> list[Case]:
    embedded, evaluated = _sizes(options)
    folder = ("--folder", str(options.work))
    cases = []
    for images in embedded:
        variant = Variant(f"{images:,} images", "scale", (_EMBEDDINGS, str(images), "1", *folder))
        cases.append(Case(_EMBEDDINGS + f", {images}", (variant,)))
    for images, classes in evaluated:
        arguments = ("evaluation", str(images), str(classes), *folder)
        variant = Variant(f"{images:,} images, {classes:,} classes", "scale", arguments)
        cases.append(Case(f"class means, {images}, {classes}", (variant,)))
    return cases


def _picture(options: Options, found: Found) -> list[str]:
    path = options.output / "scaling.png" if options.quick else PICTURE
    draw(options, found, path)
    if options.quick:
        return []
    return [f"![time and memory against images and classes](../{path.relative_to(ROOT)})"]


def draw(options: Options, found: Found, path: Path) -> None:
    """Time, and private memory beside the embeddings, against the number of images, a line for each kind of work."""
    from matplotlib.figure import Figure

    embedded, evaluated = _sizes(options)
    lines = {"embeddings, Conv4 at 16 px": [(images, f"{_EMBEDDINGS}, {images}") for images in embedded]}
    for classes in sorted({classes for _, classes in evaluated}):
        points = [(images, f"class means, {images}, {classes}") for images, own in evaluated if own == classes]
        lines[f"1000 episodes of class means, {classes:,} classes"] = points
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes: Any = figure.subplots(1, 2)
    for axis, title, key in zip(
        axes, ("seconds", "private memory beside the embeddings, GB"), ("seconds", "memory"), strict=True
    ):
        for label, points in lines.items():
            spreads = [_spread(found, case, key) for _, case in points]
            middle = [spread.median for spread in spreads]
            below = [spread.median - spread.low for spread in spreads]
            above = [spread.high - spread.median for spread in spreads]
            axis.errorbar([images for images, _ in points], middle, (below, above), marker="o", capsize=3, label=label)
        axis.set_xscale("log")
        axis.set_xlabel("images")
        axis.set_title(title)
    axes[0].set_yscale("log")
    axes[1].set_ylim(bottom=0)
    axes[0].legend(fontsize="x-small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _spread(found: Found, case: str, key: str) -> Spread:
    (runs,) = found.runs[case].values()
    if key == "memory":
        return Spread.of([facts["private_gb"] - facts["embeddings_gb"] for facts in runs])
    return Spread.of([facts[key] for facts in runs])


SCALING = Benchmark(
    name="scaling",
    title="How cost grows",
    remark=(
        "Embeddings of memory-mapped tables of 16 px by Conv4, 64 numbers an image; and 1000 episodes of class means, "
        "5-way 5-shot with 5 queries, on embeddings of 64 numbers: drawn, evaluated, and written as rows of "
        "result.json. Private memory leaves out the pages of mapped files; the picture shows it without the "
        "embeddings, which are what the one makes and the other is given."
    ),
    key="seconds",
    unit="seconds",
    better="less",
    against=(),
    columns=(
        ("drawing", "drawing, s"),
        ("evaluating", "evaluating, s"),
        ("writing", "rows of the result, s"),
        ("confusion_mb", "confusion matrix as JSON, MB"),
        ("private_gb", "private memory, GB"),
        ("embeddings_gb", "of this the embeddings, GB"),
    ),
    cases=_cases,
    minutes=3.8,
    after=_picture,
)
