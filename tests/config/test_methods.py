"""What a method's adaptation needs of the stages before it and takes over from them, and what it asks of both."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ppfsl.config_file import parse_config, to_yaml
from tests.config.loading import adaptation, load, mistake, objective, stage


@pytest.mark.parametrize(
    "own",
    [
        {"name": "cross_entropy"},
        {"name": "siamese"},
        {"name": "matching", "context": "full"},
        {"name": "relation"},
        {"name": "meta_baseline"},
        {"name": "anil"},
        {"name": "learned_optimizer"},
        {"name": "memory_augmented"},
    ],
    ids=lambda own: own["name"],
)
def test_objectives_with_layers_may_train_these_alone(tmp_path: Path, own: dict[str, Any]) -> None:
    assert load(tmp_path, stage(objective=own, trainable="head")).pretrain[0].trainable == "head"


TRAINED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "siamese": ({"name": "siamese", "shots": "max"}, {"name": "siamese"}),
    "relation": ({"name": "relation", "label": "other"}, {"name": "relation"}),
    "meta_baseline": ({"name": "meta_baseline"}, {"name": "meta_baseline"}),
    "matching with context: full": ({"name": "matching", "context": "full"}, {"name": "matching", "context": "full"}),
    "anil": ({"name": "anil", "steps": 3}, {"name": "anil"}),
    "maml": ({"name": "maml", "batch_norm": "running"}, {"name": "maml", "order": 1}),
    "meta_sgd": ({"name": "meta_sgd"}, {"name": "meta_sgd"}),
    "reptile": ({"name": "reptile"}, {"name": "reptile"}),
    "lstm_meta_learner": ({"name": "lstm_meta_learner", "steps": 3}, {"name": "lstm_meta_learner"}),
    "learned_optimizer": ({"name": "learned_optimizer", "scale": 3.0}, {"name": "learned_optimizer"}),
    "memory_augmented": ({"name": "memory_augmented"}, {"name": "memory_augmented", "slots": 4}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_an_adaptation_that_uses_learned_layers_needs_the_last_stage_to_learn_them(tmp_path: Path, name: str) -> None:
    adapting, learning = TRAINED[name]
    sentence = f"c.yaml: adaptation {name} needs what the objective {name} learns; make that the last stage of pretrain"
    plain, own = {"objective": {"name": "cosine"}}, {"objective": learning}
    other = {"objective": {"name": "relation" if name != "relation" else "siamese"}}
    without = {"objective": {"name": learning["name"]}} if name.startswith("matching") else plain
    for stages in ([], [plain], [own, plain], [own, other], [without]):
        tree = {"pretrain": stages, "adaptations": [{"name": "class_mean"}, adapting]}
        assert mistake(tmp_path, tree) == sentence
    for stages in ([own], [plain, own]):
        tree = {"pretrain": stages, "adaptations": [{"name": "class_mean"}, adapting]}
        assert load(tmp_path, tree).adaptations[1].name == adapting["name"]


@pytest.mark.parametrize("name", ["nearest_shot", "prototypical", "matching", "baseline", "baseline++", "soft_kmeans"])
def test_an_adaptation_that_learns_nothing_beforehand_needs_no_stage(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, {"adaptations": [{"name": name}]}).adaptations[0].name == name


WHOLE = ("maml", "meta_sgd", "reptile", "lstm_meta_learner")  # adapt all of a network


@pytest.mark.parametrize("trainable", ["last_block", "projection", "head"])
@pytest.mark.parametrize("name", WHOLE)
def test_what_adapts_the_whole_network_trains_all_of_it(tmp_path: Path, name: str, trainable: str) -> None:
    assert mistake(tmp_path, stage(objective={"name": name}, trainable=trainable)) == (
        f"c.yaml: pretrain.0: trainable: {trainable} does not go with {name}, which adapts the whole network; "
        "leave it out, or train with anil"
    )
    assert load(tmp_path, stage(objective={"name": "anil"}, trainable=trainable)).pretrain[0].trainable == trainable


@pytest.mark.parametrize("name", ["anil", "memory_augmented", *WHOLE])
def test_a_classifier_of_fixed_way_meets_episodes_of_that_way_alone(tmp_path: Path, name: str) -> None:
    own, other = {"objective": {"name": name, "way": 4}}, {"objective": {"name": "cosine"}}
    judged = {"validation": {"way": 4}}
    alike: dict[str, Any] = {"pretrain": [own], **judged, **adaptation(name), "evaluation": {"way": 4}}
    assert load(tmp_path, alike).evaluation.way == (4,)
    with_set = {**alike, "evaluation": {"way": 4, "support_set": {"way": 4, "shot": 2}}}
    assert load(tmp_path, with_set).evaluation.support_set.way == 4
    named = {**alike, "evaluation": {"way": 4, "support_set": {"classes": [3, 1, 5, 8]}}}
    assert load(tmp_path, named).evaluation.support_set.classes == (3, 1, 5, 8)
    for changes, key, way in (
        ({"validation": {"way": 3}}, "validation.way", 3),
        ({"validation": {}}, "validation.way", 5),
        ({"evaluation": {}}, "evaluation.way", 5),
        ({"evaluation": {"way": [4, 20]}}, "evaluation.way", 20),
        ({"evaluation": {"way": 4, "support_set": {"way": 6}}}, "evaluation.support_set.way", 6),
        (
            {"evaluation": {"way": 4, "support_set": {"classes": [3, 1]}}},
            "the number of evaluation.support_set.classes",
            2,
        ),
        ({"pretrain": [own, own], "validation": {"way": 3}}, "validation.way", 3),
    ):
        assert mistake(tmp_path, {**alike, **changes}) == (
            f"c.yaml: {key} is {way}, but {name} is trained 4-way and serves no other; make them equal"
        )
    # Validation asks a stage's own method, also one whose method nobody evaluates in the end.
    assert "validation.way is 5, but" in mistake(tmp_path, {"pretrain": [own, other]})
    # Class means serve any way.
    assert load(tmp_path, {"pretrain": [own, other], **judged}).evaluation.way == (5,)
    assert load(tmp_path, {"pretrain": [own], **judged, "evaluation": {"way": 7}}).evaluation.way == (7,)


# --- settings that an adaptation leaves open


def test_settings_of_adaptation_that_are_left_out_are_those_of_training(tmp_path: Path) -> None:
    for name in ("anil", *WHOLE):
        tree = {**objective(name), **adaptation(name)}
        found = load(tmp_path, tree).adaptations[0].model_dump()
        open_keys = {key for key, value in found.items() if value is None}
        assert (
            open_keys
            == {
                "anil": {"label", "steps", "lr"},
                "maml": {"label", "steps", "lr", "batch_norm"},
                "meta_sgd": {"label", "steps", "batch_norm"},
                "reptile": {"label", "lr", "batch_norm"},
                "lstm_meta_learner": {"label", "steps", "batch_norm"},
            }[name]
        )


@pytest.mark.parametrize(
    ("objective", "adaptation", "expected"),
    [
        (
            {"name": "prototypical", "metric": "cosine", "temperature": 0.1},
            {"name": "prototypical"},
            {"metric": "cosine", "temperature": 0.1},
        ),
        (
            {"name": "prototypical", "metric": "cosine", "temperature": 0.1},
            {"name": "prototypical", "temperature": 2.0},
            {"metric": "cosine", "temperature": 2.0},
        ),
        (
            {"name": "matching", "context": "full", "temperature": 0.04},
            {"name": "matching"},
            {"context": "full", "temperature": 0.04},
        ),
        (
            {"name": "matching", "context": "full", "temperature": 0.04},
            {"name": "matching", "context": "none"},
            {"context": "none", "temperature": 0.04},
        ),
        ({"name": "relation", "shots": "mean"}, {"name": "relation"}, {"shots": "mean"}),
        (
            {"name": "learned_optimizer", "inner_steps": 7, "scale": 3.0},
            {"name": "learned_optimizer", "scale": 5.0},
            {"inner_steps": 7, "scale": 5.0},
        ),
    ],
)
def test_what_an_adaptation_leaves_open_is_as_in_the_last_stage_of_its_name(
    objective: dict[str, Any], adaptation: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = parse_config({"pretrain": [{"objective": objective}], "adaptations": [adaptation]}, "x.yaml")
    (chosen,) = config.adaptations
    assert {key: getattr(chosen, key) for key in expected} == expected
    assert parse_config(yaml.safe_load(to_yaml(config)), "x.yaml") == config
    (again,) = config.as_trained_by({**objective, "name": "another"}).adaptations
    assert again == chosen


def test_what_was_left_open_may_be_as_in_another_training_and_what_was_said_stays() -> None:
    open_one, said = {"name": "prototypical", "label": "open"}, {"name": "prototypical", "temperature": 2.0}
    stages = [{"objective": {"name": "prototypical", "temperature": 8.0}}]
    config = parse_config({"pretrain": stages, "adaptations": [{"name": "class_mean"}, open_one, said]}, "x.yaml")
    other = {"name": "prototypical", "metric": "cosine", "temperature": 0.1, "way": 5}
    copied = config.model_copy(update={"threads": 1})
    found = [entry.model_dump() for entry in copied.as_trained_by(other).adaptations]
    assert [(entry.get("metric"), entry.get("temperature")) for entry in found] == [
        (None, None), ("cosine", 0.1), ("cosine", 2.0)
    ]  # fmt: skip
    assert [entry.temperature for entry in config.adaptations[1:]] == [8.0, 2.0]


def test_what_an_adaptation_leaves_open_without_such_a_stage_is_the_objectives_default() -> None:
    stages = [{"objective": {"name": "prototypical", "metric": "cosine"}}, {"objective": {"name": "cross_entropy"}}]
    config = parse_config({"pretrain": stages, "adaptations": [{"name": "prototypical"}, {"name": "matching"}]}, "x")
    prototypical, matching = config.adaptations
    assert (prototypical.metric, prototypical.temperature) == ("squared_euclidean", 1.0)
    assert (matching.context, matching.temperature) == ("none", 1.0)
