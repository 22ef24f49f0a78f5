"""What a run asks: its episodes, its fixed support set, and its pairs of images."""

from pathlib import Path

import numpy as np

from ppfsl.config import Config
from ppfsl.data.class_split import PartName, part_images
from ppfsl.data.episodes import Episode, EpisodeSampler
from ppfsl.data.support_set import SupportSet, as_episode, draw_support_set, load_support_set
from ppfsl.errors import UserError
from ppfsl.subject import Data
from ppfsl.verification import Pairs, draw_pairs, draw_sets


def run_support_set(config: Config, data: Data) -> SupportSet:
    """The one fixed support set of a run, from its file or drawn.

    Raises:
        UserError: when the data cannot serve it, or the file holds images of other classes or more or fewer classes
            than an adaptation serves.
    """
    wanted, evaluation = config.evaluation.support_set, config.evaluation
    if wanted.file is not None:
        support_set = _loaded(Path(wanted.file), evaluation.part, data)
        try:
            config.check_way(f"the way of {wanted.file}", support_set.way)
        except ValueError as error:
            raise UserError(str(error)) from None
        return support_set
    return draw_support_set(
        data.table,
        data.rows,
        way=wanted.way or (len(wanted.classes) if wanted.classes else evaluation.way[0]),
        shot=wanted.shot or max(evaluation.shot),
        query=wanted.query or evaluation.query,
        seed=wanted.seed,
        split=data.split.name,
        part=evaluation.part,
        classes=wanted.classes,
    )


def _loaded(path: Path, part: str, data: Data) -> SupportSet:
    support_set = load_support_set(path)
    episode = as_episode(support_set, data.table)
    outside = np.setdiff1d(np.concatenate([episode.support.ravel(), episode.query.ravel()]), data.rows)
    if len(outside):
        raise UserError(
            f"{path}: {data.table.files[outside[0]]} is not among the {part} images of split {data.split.name}; "
            "draw the support set from that split and part, or set data.split and evaluation.part to its own"
        )
    return support_set


def episode_sampler(config: Config, data: Data, way: int, shot: int) -> EpisodeSampler:
    """The episodes of a run that have so many classes and shots.

    Raises:
        UserError: when the data cannot serve them.
    """
    wanted = config.evaluation
    labels, names = data.table.labels[data.rows], data.table.class_names
    return EpisodeSampler(data.rows, labels, way, shot, wanted.query, wanted.seed, part=wanted.part, names=names)


def episodes_of(config: Config, data: Data, task: tuple[int, int] | None, support_set: SupportSet) -> list[Episode]:
    """Those of a task, way and shot; None stands for the fixed support set, which is one."""
    if task is None:
        return [as_episode(support_set, data.table)]
    return list(episode_sampler(config, data, *task).take(config.evaluation.episodes))


def check_verification(config: Config, data: Data) -> None:
    """Raise when the data cannot serve the verification that a configuration asks for.

    Raises:
        UserError: saying what is missing.
    """
    if config.verification is None:
        return
    if not data.split.validation.classes:
        raise UserError(
            f"verification chooses its threshold on validation classes, but split {data.split.name} has none; "
            "set verification to null or choose another split"
        )
    run_pairs(config, data)


def run_pairs(config: Config, data: Data) -> list[tuple[PartName, np.ndarray, Pairs]]:
    """What the threshold is chosen on, and what it is judged on: a part, its images, and pairs of them.

    The latter are other pairs even where they are of the same images.
    """
    assert config.verification is not None
    wanted = config.verification
    parts: tuple[PartName, PartName] = ("validation", config.evaluation.part)
    rows = [part_images(data.table, data.split, part) for part in parts]
    labels = [data.table.labels[images] for images in rows]
    if config.evaluation.part == "validation":
        pairs = draw_sets(labels[0], wanted.pairs, 2, wanted.seed, "validation")
    else:
        pairs = [draw_pairs(of, wanted.pairs, wanted.seed, part) for part, of in zip(parts, labels, strict=True)]
    return list(zip(parts, rows, pairs, strict=True))
