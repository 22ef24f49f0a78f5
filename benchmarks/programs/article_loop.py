"""The article's protocol as it describes it, plainly in Paddle, timed on a sample of its steps and extrapolated.

Photographs of the base classes are read once. Each training step draws triples of photographs, pushes anchors,
positives and negatives through the frozen network and trains the projection. Then each fine-tuning step pushes the
support set's photographs through the network, and the classifier that started at the class means is fitted to them;
the queries are pushed through it at the end. All sizes and rates are those of configs/flowers102/article.yaml.

The loop's accuracy does not depend on whether a frozen network's features are computed again each time. So it is
had, where `--accuracy` asks for it and outside of all timing, by the same loop on features that are computed once.
"""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.vision import transforms as T
from paddle.vision.datasets import Flowers

from benchmarks.programs.article_ppfsl import CONFIG
from benchmarks.programs.common import report
from benchmarks.programs.flowers_prepare import flowers_files
from benchmarks.programs.heads_loop import Head, fine_tuned, right_queries
from ppfsl.backbones.embedder import Embedder, build_embedder
from ppfsl.backbones.weights import load_pretrained
from ppfsl.config import Config, CosineConfig
from ppfsl.config_file import load_config
from ppfsl.pipeline import architecture_of


def photographs(work: Path, mode: str, classes: range, size: int, most: int) -> tuple[dict[int, np.ndarray], float]:
    """label -> float32 [N, 3, size, size], 0..255, and the share of the classes' photographs that these are.

    Args:
        work: where `flowers_prepare` has put the archive.
        mode: "train" is the official test list, "test" the training list.
        classes: labels.
        size: side in pixels.
        most: photographs of a class.
    """
    changes = T.Compose([T.Resize(size), T.CenterCrop(size)])
    dataset = Flowers(*flowers_files(work), mode=mode, transform=changes)
    labels = dataset.labels[np.asarray(dataset.indexes) - 1]
    found: dict[int, list[np.ndarray]] = {label: [] for label in classes}
    places = np.flatnonzero(np.isin(labels, list(classes)))
    for place in places:
        if len(found[int(labels[place])]) < most:
            image, label = dataset[int(place)]
            found[int(label[0])].append(np.asarray(image, dtype=np.float32).transpose(2, 0, 1))
    return {label: np.stack(images) for label, images in found.items()}, sum(map(len, found.values())) / len(places)


@dataclass
class Loop:
    """The article's two loops over a frozen network.

    Attributes:
        config: sizes and rates.
        see: photographs [N, 3, S, S], or anything that stands for them, to the network's features [N, B].
        base: label -> what `see` takes.
        projection: what is trained.
    """

    config: Config
    see: Any
    base: dict[int, np.ndarray]
    projection: nn.Linear
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        rate = self.config.pretrain[0].optimizer.lr
        self.optimizer = paddle.optimizer.Adam(rate, parameters=self.projection.parameters())

    def training_step(self) -> None:
        """Triples, three passes through the network, cosine similarities against 1 and 0."""
        classes = sorted(self.base)
        triples: list[list[np.ndarray]] = [[], [], []]
        objective = self.config.pretrain[0].objective
        assert isinstance(objective, CosineConfig)
        for label in self.chance.choice(classes, objective.triples):
            anchor, positive = self.chance.choice(len(self.base[label]), 2, replace=False)
            other = self.chance.choice([one for one in classes if one != label])
            negative = self.chance.integers(len(self.base[other]))
            for images, image in zip(
                triples, (self.base[label][anchor], self.base[label][positive], self.base[other][negative]), strict=True
            ):
                images.append(image)
        anchor, positive, negative = (self.projection(self.see(np.stack(images))) for images in triples)
        same, different = F.cosine_similarity(anchor, positive), F.cosine_similarity(anchor, negative)
        loss = F.mse_loss(
            paddle.concat([same, different]), paddle.concat([paddle.ones_like(same), paddle.zeros_like(different)])
        )
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad()

    def embed(self, images: np.ndarray) -> paddle.Tensor:
        """Projections of length one."""
        with paddle.no_grad():
            return F.normalize(self.projection(self.see(images)), axis=-1)

    def fine_tuning_step(self, support: np.ndarray, labels: paddle.Tensor) -> None:
        """One step as the article takes it: the support set goes through the network anew."""
        self.head(self.embed(support), labels, steps=1)

    def head(self, embedded: paddle.Tensor, labels: paddle.Tensor, steps: int) -> Head:
        """Weight and bias after so many steps."""
        wanted: Any = next(one for one in self.config.adaptations if one.name == "finetune")
        head = {"steps": steps, "lr": wanted.optimizer.lr, "scale": wanted.scale}
        return fine_tuned(embedded, labels, self.config.evaluation.way[0], wanted.entropy == "support", head)


def timed(loop: Loop, work: Path, size: int, steps: int) -> dict[str, float]:
    """Seconds of each part of the whole, from a sample of `steps` steps of either loop."""
    config, way = loop.config, loop.config.evaluation.way[0]
    shot, query = config.evaluation.shot[0], config.evaluation.query
    start = time.perf_counter()
    loop.base, share = photographs(work, "train", range(1, 26), size, most=8)
    reading = (time.perf_counter() - start) / share
    few, _ = photographs(work, "test", range(1, way + 1), size, most=shot + query)
    support = np.concatenate([few[label][:shot] for label in sorted(few)])
    queries = np.concatenate([few[label][shot : shot + query] for label in sorted(few)])
    labels = paddle.to_tensor(np.repeat(np.arange(way), shot))
    training = _mean_seconds(loop.training_step, steps)
    tuning = _mean_seconds(lambda: loop.fine_tuning_step(support, labels), steps)
    answering = _mean_seconds(lambda: loop.embed(queries), 1)
    stage = config.pretrain[0]
    finetune: Any = next(one for one in config.adaptations if one.name == "finetune")
    return {
        "reading": reading,
        "training": training * stage.epochs * (stage.steps_per_epoch or 0),
        "tuning": tuning * finetune.steps,
        "answering": answering,
    }


def accuracies(config: Config, embedder: Embedder, options: argparse.Namespace) -> dict[str, Any]:
    """What the loop ends with: on the first episodes of the configuration, and on its one support set."""
    from ppfsl.data.class_split import part_images
    from ppfsl.data.support_set import as_episode
    from ppfsl.inference.engine import embed
    from ppfsl.pipeline import open_data
    from ppfsl.questions import episode_sampler, run_support_set

    data = open_data(config)
    rows = np.union1d(part_images(data.table, data.split, "base"), data.rows)
    features = np.zeros((len(data.table), embedder.backbone_dim), dtype=np.float32)
    features[rows] = embed(embedder, data.table.images, rows, "features")
    base_rows = part_images(data.table, data.split, "base")
    labels = data.table.labels[base_rows]
    base = {int(label): features[base_rows[labels == label]] for label in np.unique(labels)}
    paddle.seed(0)
    assert config.backbone.projection != "none"
    loop = Loop(config, paddle.to_tensor, base, nn.Linear(embedder.backbone_dim, config.backbone.projection))
    stage = config.pretrain[0]
    for _ in range(stage.epochs * (stage.steps_per_epoch or 0)):
        loop.training_step()
    finetune: Any = next(one for one in config.adaptations if one.name == "finetune")

    def right(episode: Any) -> int:
        way, shot = episode.support.shape
        own, truth = (np.repeat(np.arange(way), count) for count in (shot, episode.query.shape[1]))
        embedded = loop.embed(features[episode.support.ravel()])
        head = loop.head(embedded, paddle.to_tensor(own), finetune.steps)
        return right_queries(loop.embed(features[episode.query.ravel()]), truth, head, finetune.scale)

    drawn = episode_sampler(config, data, *config.evaluation.tasks[0]).take(options.episodes)
    found = [right(episode) for episode in drawn]
    asked = config.evaluation.way[0] * config.evaluation.query
    one = as_episode(run_support_set(config, data), data.table)
    return {"accuracy": sum(found) / (len(found) * asked), "support_set": f"{right(one)} of {one.query.size}"}


def _mean_seconds(step: Any, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def main() -> None:
    """Print the seconds of the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, required=True, help="the sample")
    parser.add_argument("--episodes", type=int, required=True, help="whose accuracy is given")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--option", action="append", default=[])
    options = parser.parse_args()
    settings = [f"data.root={options.data}", f"data.cache_dir={options.work / 'cache'}", *options.option]
    config = load_config(CONFIG, settings)
    embedder = build_embedder(architecture_of(config), config.seed)
    load_pretrained(embedder, config.backbone.pretrained)
    embedder.eval()

    def see(images: np.ndarray) -> paddle.Tensor:
        with paddle.no_grad():
            return embedder.features(paddle.to_tensor(images))

    assert embedder.projection is not None
    parts = timed(Loop(config, see, {}, embedder.projection), options.work, config.data.image_size, options.steps)
    text = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts.items())
    found = accuracies(config, embedder, options) if options.accuracy else {}
    report(seconds=sum(parts.values()), timed=f"{options.steps} steps of each loop, extrapolated: {text}", **found)


if __name__ == "__main__":
    main()
