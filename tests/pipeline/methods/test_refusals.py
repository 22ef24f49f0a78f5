"""By which methods checkpoints may not be evaluated, and which episodes are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ppfsl import pipeline
from ppfsl.errors import UserError
from tests.pipeline.runs import Tree, changed, configured


def test_a_checkpoint_without_what_an_adaptation_needs_is_refused(
    method_runs: dict[str, tuple[Path, Tree]], tmp_path: Path, quiet: None
) -> None:
    relation = method_runs["relation"][1]
    for other in ("prototypical", "siamese"):  # with no layer, with another method's
        checkpoint = method_runs[other][0] / "checkpoints" / "best.safetensors"
        with pytest.raises(UserError) as caught:
            pipeline.run(configured(relation, tmp_path / other), "tiny", checkpoint)
        assert str(caught.value) == (
            "adaptation relation needs what the objective of that name learns, which this checkpoint lacks; "
            "evaluate a run whose last stage has it"
        )
        assert not (tmp_path / other).exists()


def test_a_checkpoint_of_another_method_that_adapts_by_gradient_is_refused(
    method_runs: dict[str, tuple[Path, Tree]], tmp_path: Path, quiet: None
) -> None:
    maml = method_runs["maml"][1]
    for other in ("anil", "reptile", "meta_sgd", "lstm_meta_learner"):
        checkpoint = method_runs[other][0] / "checkpoints" / "best.safetensors"
        with pytest.raises(UserError) as caught:
            pipeline.run(configured(maml, tmp_path / other), "tiny", checkpoint)
        assert str(caught.value) == (
            "adaptation maml needs what the objective of that name learns, but this checkpoint holds that of "
            f"{other}; evaluate another run, or adapt by {other}"
        )
        assert not (tmp_path / other).exists()


@pytest.mark.parametrize("kind", ["anil", "maml", "lstm_meta_learner", "memory_augmented"])
def test_a_checkpoint_of_another_way_is_refused(
    method_runs: dict[str, tuple[Path, Tree]], tmp_path: Path, quiet: None, kind: str
) -> None:
    tree = method_runs[kind][1]
    for key in ("pretrain.0.objective.way", "validation.way", "evaluation.way"):
        tree = changed(tree, key, 2)
    checkpoint = method_runs[kind][0] / "checkpoints" / "best.safetensors"
    with pytest.raises(UserError) as caught:
        pipeline.run(configured(tree, tmp_path / "run"), "tiny", checkpoint)
    assert str(caught.value) == (
        f"{kind} was trained 3-way and serves no 2-way episodes; "
        "evaluate with 3 classes, in evaluation.way and in the support set"
    )


def test_an_adaptation_without_its_objective_is_refused(method_tree: Callable[[str], Tree], tmp_path: Path) -> None:
    tree = {**method_tree("prototypical"), "adaptations": [{"name": "relation"}]}
    with pytest.raises(UserError) as caught:
        configured(tree, tmp_path / "run")
    assert str(caught.value) == (
        "a test: adaptation relation needs what the objective relation learns; make that the last stage of pretrain"
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"way": 7}, "1_relation: 7-way episodes need 7 classes, but there are 6 base classes; lower objective.way"),
        (
            {"shot": 6},
            "1_relation: a base class has 8 images, but 6 shots and 3 queries need 9; lower objective.shot or",
        ),
    ],
)
def test_episodes_that_the_base_classes_cannot_serve_are_refused_before_anything_is_written(
    method_tree: Callable[[str], Tree], tmp_path: Path, keys: Tree, words: str
) -> None:
    tree = method_tree("relation")
    tree["pretrain"][0]["objective"] = {**tree["pretrain"][0]["objective"], **keys}
    with pytest.raises(UserError) as caught:
        pipeline.run(configured(tree, tmp_path / "run"), "tiny")
    assert str(caught.value).startswith(words)
    assert not (tmp_path / "run").exists()
