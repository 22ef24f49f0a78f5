"""A run of every method that is trained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ppfsl import pipeline
from tests.pipeline.methods.trained import METHODS
from tests.pipeline.runs import Tree, configured


@pytest.fixture(scope="session")
def method_tree(image_cache: Path) -> Callable[[str], Tree]:
    """Gives the tree of a run of one epoch of two steps a stage on drawn blossoms of 32 pixels, on maps of 8 x 8."""

    def tree(kind: str) -> Tree:
        objectives, adaptation = METHODS[kind]
        return {
            "data": {
                "name": "synthetic",
                "image_size": 32,
                "split_ratio": [0.5, 0.25, 0.25],
                "synthetic": {"classes": 12, "images_per_class": 8},
                "cache_dir": str(image_cache),
            },
            "backbone": {"name": "conv4", "width": 8, "pools": 2, "projection": "none"},
            "pretrain": [{"objective": o, "epochs": 1, "steps_per_epoch": 2} for o in objectives],
            "validation": {"way": 3, "query": 3, "episodes": 5},
            "adaptations": [adaptation],
            "evaluation": {"way": 3, "shot": [1, 2], "query": 4, "episodes": 10},
        }

    return tree


@pytest.fixture(scope="session")
def method_runs(
    method_tree: Callable[[str], Tree], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Tree]]:
    """The directory, to be read only, and the tree of each method's run, without pictures."""
    folder = tmp_path_factory.mktemp("methods")
    runs = {kind: (folder / kind, method_tree(kind)) for kind in METHODS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "show_run", lambda *_: None)
        for run, tree in runs.values():
            pipeline.run(configured(tree, run), "tiny")
    return runs
