"""Draw the curves of docs/analysis.md from the committed results.

    python docs/make_curves.py

Accuracy on novel classes against shots, against ways and against training, and on validation classes against training.
The numbers are those of results/flowers102/*/result.json and validation.json; docs/results.md says which command makes
each.
"""

import io
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from matplotlib.figure import Figure

from ppfsl.files import replacing
from ppfsl.reporting.drawing import COLOURS, MARKERS, styled

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "results" / "flowers102"
SPLIT = "Flowers102 fsl_ssl"
EMBEDDERS = {"finetuned": "fine-tuned, finished", "frozen": "frozen, finished"}
BUDGET = "finetuned_mobilenet_v1"
BUDGETS = {0: "frozen_finished", 1: "finetuned_epochs_1", 3: "finetuned_epochs_3", 7: "finetuned_epochs_7", 14: BUDGET}
"""Epochs of fine-tuning -> the row of a run of so many."""


def evaluations(row: str) -> list[dict[str, Any]]:
    """Of a row, without the fixed support set."""
    result = json.loads((ROWS / row / "result.json").read_text(encoding="utf-8"))
    return [entry for entry in result["evaluations"] if not entry["support_set"]]


def curves(axes: Any, along: str, **fixed: int) -> None:
    """A line per embedder and adaptation, with 95 % intervals.

    Args:
        axes: to draw on.
        along: "shot" or "way".
        fixed: what the evaluations drawn have in common, such as way=5.
    """
    first = evaluations(f"{along}s_finetuned")
    names = list(dict.fromkeys(entry["adaptation"] for entry in first))
    for (row, embedder), line, fill in zip(EMBEDDERS.items(), ("-", ":"), ("full", "none"), strict=True):
        rows = [entry for entry in evaluations(f"{along}s_{row}") if fixed.items() <= entry.items()]
        for name in dict.fromkeys(entry["adaptation"] for entry in rows):
            own = sorted((entry for entry in rows if entry["adaptation"] == name), key=lambda entry: entry[along])
            place = names.index(name)
            kind = " (transductive)" if own[0]["transductive"] else ""
            axes.errorbar(
                [entry[along] for entry in own],
                [100 * entry["accuracy"] for entry in own],
                [100 * entry["ci95"] for entry in own],
                color=COLOURS[place],
                marker=MARKERS[place],
                markersize=4,
                fillstyle=fill,
                linewidth=1.4,
                linestyle=line,
                label=f"{name.replace('_', ' ')}{kind}, {embedder}",
            )
    ticks = sorted({entry[along] for entry in first if fixed.items() <= entry.items()})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=True)


@styled
def against_shots() -> Figure:
    """5-way accuracy against the number of shots."""
    figure = Figure(figsize=(6.6, 4.2))
    axes = figure.subplots()
    curves(axes, "shot", way=5)
    axes.set_title(SPLIT)
    axes.set_xlabel("shots: labelled pictures a class (5-way)")
    axes.set_ylabel("accuracy on novel classes, %")
    axes.legend(fontsize=7, loc="lower right")
    return figure


@styled
def against_ways() -> Figure:
    """1-shot and 5-shot accuracy against the number of classes."""
    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    for axes, shot in zip(figure.subplots(1, 2, sharey=True), (1, 5), strict=True):
        curves(axes, "way", shot=shot)
        axes.set_title(f"{SPLIT}, {shot} shot{'s' if shot > 1 else ''}")
        axes.set_xlabel("ways: classes to tell apart")
    figure.axes[0].set_ylabel("accuracy on novel classes, %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=7, loc="outside lower center", ncols=2)
    return figure


@styled
def against_training() -> Figure:
    """Novel classes by runs of so many epochs of fine-tuning; validation classes after every epoch of the longest."""
    rows = json.loads((ROWS / BUDGET / "validation.json").read_text(encoding="utf-8"))
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    novel, validation = figure.subplots(1, 2)
    for place, shot in enumerate((1, 5)):
        found = [
            next(e for e in evaluations(row) if e["adaptation"] == "class_mean" and e["shot"] == shot)
            for row in BUDGETS.values()
        ]
        novel.errorbar(
            list(BUDGETS),
            [100 * entry["accuracy"] for entry in found],
            [100 * entry["ci95"] for entry in found],
            color=COLOURS[place],
            marker=MARKERS[place],
            label=f"{shot} shot{'s' if shot > 1 else ''}",
        )
    novel.set_title(f"{SPLIT}, a run each, finished")
    novel.set_ylabel("5-way accuracy of class means\non novel classes, %")
    novel.legend(loc="center right")
    validation.plot([row["epoch"] for row in rows], [100 * row["value"] for row in rows], marker="o", color=COLOURS[0])
    validation.set_ylim(novel.get_ylim())  # so that steps within its noise look as small as they are
    validation.set_title(f"{SPLIT}, one run, before finishing")
    validation.set_ylabel("5-way 1-shot accuracy\non validation classes, %")
    for axes in (novel, validation):
        axes.set_xlabel("epochs of fine-tuning on the base classes")
        axes.set_xticks(range(0, max(BUDGETS) + 1, 2))
        axes.grid(visible=True)
    return figure


def main() -> None:
    """Write docs/images/shots.png, ways.png and training.png."""
    for name, figure in (("shots", against_shots()), ("ways", against_ways()), ("training", against_training())):
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=130, bbox_inches="tight", facecolor="white")
        target = ROOT / "docs" / "images" / f"{name}.png"
        with replacing(target) as temporary:
            temporary.write_bytes(buffer.getvalue())
        print(target)


if __name__ == "__main__":
    main()
