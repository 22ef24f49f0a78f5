"""Draw the README's picture from a finished quickstart run.

    python tools/train.py -c configs/quickstart.yaml
    python docs/make_pictures.py

Left of the line the support set, right of it queries, each under the name that the run's fine-tuned head gives it.
"""

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import paddle
from matplotlib.figure import Figure
from PIL import Image

from ppfsl.config_file import load_config
from ppfsl.data.datasets import open_table
from ppfsl.data.support_set import as_episode, load_support_set
from ppfsl.data.synthetic import draw_blossom
from ppfsl.inference.engine import embed
from ppfsl.methods.base import Support
from ppfsl.methods.build import build_method
from ppfsl.training.checkpoint import load_embedder

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "output" / "quickstart"
SHOTS, QUERIES, PIXELS = 5, 5, 128


def main() -> None:
    """Write docs/images/quickstart.png."""
    config = load_config(RUN / "config.yaml")
    table = open_table(config.data)
    support_set = load_support_set(RUN / "support_set.json")
    episode = as_episode(support_set, table)
    embedder = load_embedder(RUN / "checkpoints" / "best.safetensors")
    way, query = episode.query.shape
    adaptation = config.adaptations[-1]
    support, queries = (embed(embedder, table.images, rows.ravel()) for rows in (episode.support, episode.query))
    labels = np.repeat(np.arange(way), support_set.shot)
    classify = build_method(adaptation, embedder, config.seed).adapt(
        Support(paddle.to_tensor(support[None]), paddle.to_tensor(labels), way, np.zeros(1, dtype=np.int64))
    )
    answers = classify(paddle.to_tensor(queries[None])).argmax(-1).numpy().reshape(way, query)

    figure = Figure(figsize=(1.15 * (SHOTS + QUERIES) + 0.5, 1.42 * way), dpi=110, facecolor="white")
    grid = figure.add_gridspec(
        way, SHOTS + QUERIES + 1, width_ratios=[1] * SHOTS + [0.35] + [1] * QUERIES, wspace=0.06, hspace=0.42
    )

    def show(row: int, column: int, place: int, title: str, color: str) -> None:
        axes = figure.add_subplot(grid[row, column])
        label, index = int(table.labels[place]), int(table.files[place].rsplit("_", 1)[1].split(".")[0])
        axes.imshow(draw_blossom(config.data.synthetic.seed, label, index, PIXELS))
        axes.set_title(title, fontsize=9, color=color, pad=3, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(color)
            spine.set_linewidth(2)

    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for row, (_, name) in enumerate(support_set.classes):
        for shot in range(SHOTS):
            show(row, shot, episode.support[row, shot], f"{letters[row]}: {name}" if shot == 0 else "", "#333333")
        for column in range(QUERIES):
            answer = answers[row, column]
            right = answer == row
            title = f"✓ {letters[answer]}" if right else f"✗ {letters[answer]}"
            show(row, SHOTS + 1 + column, episode.query[row, column], title, "#0072b2" if right else "#d55e00")
    figure.text(0.125, 0.945, "five labelled pictures a class", fontsize=11)
    figure.text(0.545, 0.945, "new pictures, and what ppfsl calls them", fontsize=11)
    target = ROOT / "docs" / "images" / "quickstart.png"
    target.parent.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, bbox_inches="tight")
    # 255 colours show drawn blossoms well enough, in a third of the bytes.
    Image.open(buffer).convert("RGB").quantize(255).save(target, optimize=True)
    print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
