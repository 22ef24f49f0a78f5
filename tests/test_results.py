"""What result.json says of the pictures that were asked about, and what of it stands when others are asked for."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.config_file import parse_config
from ppfsl.data.class_split import ClassSplit, Part
from ppfsl.questions import run_support_set
from ppfsl.results import pictures_digest, write_results
from ppfsl.subject import Data, Subject, Trained
from tests.thirds import data


def test_pictures_are_known_by_name_and_label_whatever_their_size_and_split() -> None:
    one = data()
    larger = dataclasses.replace(one.table, images=np.ones((54, 8, 8, 3), dtype=np.uint8), hash="1")
    renamed = ClassSplit("other", Part(()), Part((1, 2, 3)), Part((4, 5, 6)))
    assert pictures_digest(one) == pictures_digest(Data(larger, renamed, one.rows))
    assert pictures_digest(one) != pictures_digest(data((4, 5)))
    files = tuple(name.replace("4/", "d/") for name in one.table.files)
    others = dataclasses.replace(one.table, files=files), dataclasses.replace(one.table, labels=one.table.labels + 1)
    assert len({pictures_digest(Data(table, one.split, one.rows)) for table in (one.table, *others)}) == 3


def test_with_another_seed_what_draws_by_it_is_evaluated_anew(tmp_path: Path) -> None:
    """While embeddings, episodes and support set stay what they were."""
    found = data((7, 8, 9))
    embedder = build_embedder(Architecture("conv4", 16, options=(("width", 4),)), 0)
    projected = np.random.default_rng(0).normal(size=(18, 4)).astype(np.float32)
    subject = Subject(Trained(embedder, None, "none", ()), projected)

    def answers(name: str, seed: int) -> list[Any]:
        tree = {
            "seed": seed,
            "adaptations": [{"name": "baseline", "epochs": 1}],
            "evaluation": {"way": 3, "shot": 1, "query": 4, "episodes": 10},
        }
        config = parse_config(tree, "a test")
        support_set = run_support_set(config, found)
        rows = write_results(config, name, tmp_path / name, found, subject, support_set)["evaluations"]
        return [row["episode_correct"] for row in rows]

    first = answers("one.json", 0)
    second = answers("one.json", 1)
    assert second == answers("fresh.json", 1)
    assert second != first
    assert answers("one.json", 0) == first
