"""The keys of a configuration: their defaults, which there are, and a sentence for every bad value."""

from pathlib import Path
from typing import Any

import pytest

from ppfsl.config import AugmentationConfig, Config, DataConfig
from ppfsl.config_file import parse_config
from ppfsl.errors import UserError
from tests.config.loading import STAGE, adaptation, load, mistake, objective, stage

# --- defaults


def test_no_keys_are_the_default_configuration(tmp_path: Path) -> None:
    assert load(tmp_path, "{}") == Config()


def test_contract_keys_exist() -> None:
    tree = Config().model_dump()
    for path in (
        "seed", "device", "output_dir", "data.name", "data.root", "data.split", "data.image_size", "backbone.name",
        "backbone.pretrained", "evaluation.way", "evaluation.shot", "evaluation.query", "evaluation.episodes",
    ):  # fmt: skip
        node: Any = tree
        for key in path.split("."):
            node = node[key]


def test_configurations_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3  # type: ignore[misc]


def test_derived_facts() -> None:
    assert DataConfig(image_size=64).table_size == 64
    assert DataConfig(image_size=64, cached_size=72).table_size == 72
    assert not AugmentationConfig().active
    assert all(AugmentationConfig(**c).active for c in ({"crop": "random"}, {"flip": True}, {"jitter": 0.1}))


@pytest.mark.parametrize(("shot", "shots"), [(1, (1,)), ([5], (5,)), ([1, 5, 10], (1, 5, 10))])
def test_shot_may_be_a_number_or_a_list(tmp_path: Path, shot: Any, shots: tuple[int, ...]) -> None:
    assert load(tmp_path, {"evaluation": {"shot": shot}}).evaluation.shot == shots


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    stage = "pretrain: [{objective: {name: cosine}, optimizer: {lr: 1e-3}}]"  # text to YAML 1.1, which wants 1.0e-3
    assert load(tmp_path, stage).pretrain[0].optimizer.lr == 1e-3
    assert load(tmp_path, stage, "pretrain.0.optimizer.lr=5e-4").pretrain[0].optimizer.lr == 5e-4


PATHS = (
    "output_dir", "data.root", "data.folder", "data.split", "data.cache_dir", "backbone.pretrained",
    "evaluation.support_set.file",
)  # fmt: skip


def path_at(key: str, path: str) -> dict[str, Any]:
    tree: dict[str, Any] = {"data": {"name": "folder", "folder": "x"}}
    node = tree
    *groups, last = key.split(".")
    for group in groups:
        node = node.setdefault(group, {})
    node[last] = path
    return tree


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize(
    ("written", "meant"),
    [("~/a//b", "/home/somebody/a//b"), ("a/~/b", "a/~/b"), ("./~a", "./~a"), ("./a/", "./a/"), ("none", "none")],
)
def test_paths_below_the_home_directory_are_written_out_and_others_kept(
    monkeypatch: pytest.MonkeyPatch, key: str, written: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    value: Any = parse_config(path_at(key, written), "here").model_dump()
    for part in key.split("."):
        value = value[part]
    assert value == meant


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("~nobody5/x", "there is no home directory ~nobody5; write ./~nobody5/x where a name begins with ~"),
        ("a\0b", "must not hold a null character"),
    ],
)
def test_paths_that_cannot_be_are_refused(key: str, path: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(path_at(key, path), "here")
    assert str(caught.value) == f"here: {key}: {sentence}"


# --- unknown keys


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"sed": 1}, "c.yaml: unknown key 'sed'; did you mean 'seed'?"),
        ({"data": {"imagesize": 84}}, "c.yaml: unknown key 'data.imagesize'; did you mean 'data.image_size'?"),
        (
            {"data": {"synthetic": {"clases": 9}}},
            "unknown key 'data.synthetic.clases'; did you mean 'data.synthetic.cla",
        ),
        (
            {"pretrain": [STAGE, {"objective": {"name": "triplet", "margn": 1}}]},
            "unknown key 'pretrain.1.objective.margn'; did you mean 'pretrain.1.objective.margin'?",
        ),
        (
            {"adaptations": [{"name": "finetune", "optimizer": {"learning_rte": 1}}]},
            "unknown key 'adaptations.0.optimizer.learning_rte'; known: name, lr, weight_decay, momentum",
        ),
        (
            {"pretrain": [{"objectiv": {"name": "cosine"}}]},
            "unknown key 'pretrain.0.objectiv'; did you mean 'pretrain.0.",
        ),
        ({"evaluation": {"support_set": {"clas": 1}}}, "did you mean 'evaluation.support_set.classes'?"),
        ({"zzz": 1}, "unknown key 'zzz'; known: method, seed, device"),
        ({"epochs": 3}, "unknown key 'epochs'; did you mean pretrain.0.epochs or adaptations.0.epochs?"),
        (
            {"lr": 0.1},
            "unknown key 'lr'; did you mean pretrain.0.optimizer.lr or adaptations.0.optimizer.lr or adaptations.0.lr?",
        ),
        ({"images_per_class": 9}, "did you mean data.synthetic.images_per_class or pretrain.0.objective.images_per_cl"),
        ({"data": {"epochs": 3}}, "unknown key 'data.epochs'; known: name, root"),
        ({1: 2}, "c.yaml: 1: keys should be strings"),
    ],
)
def test_unknown_key_names_the_nearest(tmp_path: Path, tree: Any, sentence: str) -> None:
    assert sentence in mistake(tmp_path, tree)


def test_misspelling_is_named_before_what_it_leaves_missing(tmp_path: Path) -> None:
    text = mistake(tmp_path, {"seed": -1, "pretrain": [{"objektive": {"name": "cosine"}}]})
    assert "unknown key 'pretrain.0.objektive'" in text


# --- values


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"seed": "x"}, "c.yaml: seed: input should be a valid integer, not 'x'"),
        ({"seed": -1}, "c.yaml: seed: input should be greater than or equal to 0, not -1"),
        ({"seed": 1.0}, "seed: input should be a valid integer, not 1.0"),
        ({"seed": True}, "seed: input should be a valid integer, not True"),
        ({"threads": 0}, "threads: input should be greater than or equal to 1, not 0"),
        ({"threads": 1025}, "threads: input should be less than or equal to 1024, not 1025"),
        ({"threads": 10**20}, "threads: input should be less than or equal to 1024, not 100000000000000000000"),
        ({"device": "tpu"}, "device: must be auto, cpu, gpu, or gpu:1 and the like, not"),
        ({"device": "gpu:x"}, "device: must be auto, cpu, gpu, or gpu:1 and the like, not"),
        ({"data": 3}, "c.yaml: data must be a group of keys, not 3"),
        ({"data": {"name": "imagenet"}}, "data.name: input should be 'synthetic', 'flowers102', "),
        ({"data": {"image_size": 8}}, "data.image_size: input should be greater than or equal to 16, not 8"),
        ({"data": {"channels": 2}}, "data.channels: input should be 1 or 3, not 2"),
        ({"data": {"split_ratio": [0.5, 0.5]}}, "'data.split_ratio.2' is required"),
        ({"data": {"split_ratio": [0.5, 0.5, 1.5]}}, "data.split_ratio.2: input should be less than or equal"),
        ({"backbone": {"projection": "nine"}}, "backbone.projection: must be a whole number or none, not 'nine'"),
        ({"backbone": {"projection": 0}}, "backbone.projection: input should be greater than or equal to 1, not 0"),
        ({"backbone": {"name": "conv4", "width": "x"}}, "backbone.width: input should be a valid integer, not 'x'"),
        (
            {"backbone": {"projection": 10**12}},
            "backbone.projection: input should be less than or equal to 65536, not 1000000000000",
        ),
        (
            {"backbone": {"name": "conv4", "width": 10**12}},
            "backbone.width: input should be less than or equal to 65536, not 1000000000000",
        ),
        (objective("siamese", hidden=[65537]), "objective.hidden.0: input should be less than or equal to 65536, not"),
        (objective("memory_augmented", slots=65537), "objective.slots: input should be less than or equal to 65536"),
        ({"evaluation": {"shot": 0}}, "evaluation.shot.0: input should be greater than or equal to 1, not 0"),
        ({"evaluation": {"shot": []}}, "evaluation.shot must be a list with one entry or more, not []"),
        ({"evaluation": {"way": 1}}, "evaluation.way.0: input should be greater than or equal to 2, not 1"),
        (
            {"evaluation": {"support_set": {"classes": [1]}}},
            "evaluation.support_set.classes must be a list with 2 entries or more, not [1]",
        ),
        ({"adaptations": []}, "adaptations must be a list with one entry or more, not []"),
        ({"pretrain": STAGE}, "pretrain must be a list, not {'objective':"),
        ({"pretrain": [{}]}, "'pretrain.0.objective' is required"),
        (stage(objective={}), "'pretrain.0.objective' needs a key 'name'"),
        (stage(objective={"name": "softmax"}), "pretrain.0.objective.name is 'softmax'; known: 'cross_entropy', "),
        (objective("triplet", margin=0), "pretrain.0.objective.margin: input should be greater than 0, not 0"),
        (objective("triplet", margin=".inf"), "pretrain.0.objective.margin: input should be a valid number"),
        (objective("triplet", margin=float("inf")), "objective.margin: input should be a finite number, not inf"),
        (objective("triplet", mining="soft"), "pretrain.0.objective.mining: input should be 'random', 'batch_all', "),
        (objective("cross_entropy", label_smoothing=1), "label_smoothing: input should be less than 1, not 1"),
        (stage(augmentation={"flip": "yes please"}), "pretrain.0.augmentation.flip: input should be a valid boolean"),
        ({"adaptations": [{"name": "finetune", "steps": 0}]}, "adaptations.0.steps: input should be greater than"),
        ({"adaptations": [{"name": "knn"}]}, "adaptations.0.name is 'knn'; known: 'class_mean', 'finetune'"),
        ({"adaptations": ["class_mean"]}, "adaptations.0 must be a group of keys, not 'class_mean'"),
        ({"data": None}, "data must be a group of keys, not None"),
        ({"data": {"name": "omniglot", "split": "vinyals", "rotations": 1}}, "data.rotations: input should be a valid"),
        ({"backbone": {"normalization": "black"}}, "backbone.normalization: input should be 'unit', 'inverted', "),
        ({"backbone": {"name": "conv4", "pools": 0}}, "backbone.pools: input should be greater than or equal to 1, no"),
        ({"backbone": {"name": "conv4", "pools": 5}}, "backbone.pools: input should be less than or equal to 4, not 5"),
        (objective("contrastive", margin=0), "pretrain.0.objective.margin: input should be greater than 0, not 0"),
        (objective("contrastive", classes_per_batch=1), "objective.classes_per_batch: input should be greater than or"),
        (objective("siamese", images_per_class=1), "objective.images_per_class: input should be greater than or equal"),
        (objective("siamese", merge="product"), "objective.merge: input should be 'absolute_difference' or 'concaten"),
        (objective("siamese", hidden=64), "pretrain.0.objective.hidden must be a list, not 64"),
        (objective("siamese", hidden=[0]), "pretrain.0.objective.hidden.0: input should be greater than or equal to"),
        (objective("prototypical", way=1), "pretrain.0.objective.way: input should be greater than or equal to 2"),
        (objective("prototypical", shot=0), "pretrain.0.objective.shot: input should be greater than or equal to 1"),
        (objective("prototypical", shot=[1, 5]), "pretrain.0.objective.shot: input should be a valid integer"),
        (objective("matching", query=0), "pretrain.0.objective.query: input should be greater than or equal to 1"),
        (objective("matching", episodes_per_batch=0), "pretrain.0.objective.episodes_per_batch: input should be great"),
        (objective("prototypical", metric="euclidean"), "objective.metric: input should be 'squared_euclidean' or 'c"),
        (objective("prototypical", temperature=0), "objective.temperature: input should be greater than 0, not 0"),
        (objective("matching", temperature=-1), "objective.temperature: input should be greater than 0, not -1"),
        (objective("matching", context="half"), "pretrain.0.objective.context: input should be 'none' or 'full', not"),
        (objective("matching", context="full", processing_steps=0), "objective.processing_steps: input should be gre"),
        (objective("relation", width=0), "pretrain.0.objective.width: input should be greater than or equal to 1"),
        (objective("relation", hidden=0), "pretrain.0.objective.hidden: input should be greater than or equal to 1"),
        (objective("meta_baseline", scale=0), "pretrain.0.objective.scale: input should be greater than 0, not 0"),
        (objective("anil", inner_steps=0), "objective.inner_steps: input should be greater than or equal to 1, not 0"),
        (objective("anil", inner_lr=0), "pretrain.0.objective.inner_lr: input should be greater than 0, not 0"),
        (objective("maml", order=3), "pretrain.0.objective.order: input should be 1 or 2, not 3"),
        (objective("maml", first_order_epochs=-1), "objective.first_order_epochs: input should be greater than or equ"),
        (objective("maml", inner_steps=0), "objective.inner_steps: input should be greater than or equal to 1, not 0"),
        (objective("maml", inner_lr=-1), "pretrain.0.objective.inner_lr: input should be greater than 0, not -1"),
        (objective("maml", batch_norm="eval"), "batch_norm: input should be 'transductive', 'support_statistics' or "),
        (objective("maml", way=1), "pretrain.0.objective.way: input should be greater than or equal to 2, not 1"),
        (objective("meta_sgd", inner_lr=0), "pretrain.0.objective.inner_lr: input should be greater than 0, not 0"),
        (objective("meta_sgd", order=1), "unknown key 'pretrain.0.objective.order'"),
        (objective("reptile", inner_batch=0), "objective.inner_batch: input should be greater than or equal to 1, not"),
        (objective("reptile", shot=0), "pretrain.0.objective.shot: input should be greater than or equal to 1, not 0"),
        (objective("lstm_meta_learner", inner_lr=1), "objective.inner_lr: input should be less than 1, not 1"),
        (objective("lstm_meta_learner", hidden=0), "objective.hidden: input should be greater than or equal to 1, not"),
        (objective("learned_optimizer", inner_steps=0), "inner_steps: input should be greater than or equal to 1, not"),
        (objective("learned_optimizer", scale=0), "pretrain.0.objective.scale: input should be greater than 0, not 0"),
        (objective("memory_augmented", instances=1), "instances: input should be greater than or equal to 2, not 1"),
        (objective("memory_augmented", decay=1), "pretrain.0.objective.decay: input should be less than 1, not 1"),
        (objective("memory_augmented", heads=0), "objective.heads: input should be greater than or equal to 1, not 0"),
        (objective("memory_augmented", shot=1), "unknown key 'pretrain.0.objective.shot'"),
        (adaptation("anil", steps=0), "adaptations.0.steps: input should be greater than or equal to 1, not 0"),
        (adaptation("anil", lr=0), "adaptations.0.lr: input should be greater than 0, not 0"),
        (adaptation("anil", batch_norm="running"), "unknown key 'adaptations.0.batch_norm'"),
        (adaptation("maml", steps=0), "adaptations.0.steps: input should be greater than or equal to 1, not 0"),
        (adaptation("maml", lr=0), "adaptations.0.lr: input should be greater than 0, not 0"),
        (
            adaptation("maml", batch_norm="eval"),
            "adaptations.0.batch_norm: input should be 'transductive', 'support_",
        ),
        (adaptation("meta_sgd", steps=0), "adaptations.0.steps: input should be greater than or equal to 1, not 0"),
        (adaptation("meta_sgd", lr=0.1), "unknown key 'adaptations.0.lr'"),
        (
            adaptation("lstm_meta_learner", steps=0),
            "adaptations.0.steps: input should be greater than or equal to 1, not",
        ),
        (adaptation("lstm_meta_learner", lr=0.1), "unknown key 'adaptations.0.lr'"),
        (
            adaptation("learned_optimizer", inner_steps=0),
            "inner_steps: input should be greater than or equal to 1, not",
        ),
        (adaptation("learned_optimizer", scale=0), "adaptations.0.scale: input should be greater than 0, not 0"),
        (adaptation("memory_augmented", way=5), "unknown key 'adaptations.0.way'"),
        (adaptation("reptile", steps=None), "adaptations.0.steps: input should be a valid integer, not None"),
        (adaptation("reptile", batch=0), "adaptations.0.batch: input should be greater than or equal to 1, not 0"),
        (adaptation("nearest_shot", shots="min"), "adaptations.0.shots: input should be 'max' or 'mean', not 'min'"),
        (adaptation("prototypical", metric="euclidean"), "adaptations.0.metric: input should be 'squared_euclidean'"),
        (adaptation("prototypical", temperature=0), "adaptations.0.temperature: input should be greater than 0, not"),
        (adaptation("matching", context="half"), "adaptations.0.context: input should be 'none' or 'full', not 'half'"),
        (adaptation("matching", temperature=0), "adaptations.0.temperature: input should be greater than 0, not 0"),
        (adaptation("baseline++", scale=0), "adaptations.0.scale: input should be greater than 0, not 0"),
        (adaptation("baseline", epochs=0), "adaptations.0.epochs: input should be greater than or equal to 1, not 0"),
        (adaptation("baseline", batch_size=0), "adaptations.0.batch_size: input should be greater than or equal to 1"),
        (adaptation("baseline", lr=0), "adaptations.0.lr: input should be greater than 0, not 0"),
        (adaptation("baseline", momentum=1), "adaptations.0.momentum: input should be less than 1, not 1"),
        (adaptation("baseline", dampening=1), "adaptations.0.dampening: input should be less than 1, not 1"),
        (adaptation("baseline", weight_decay=-1), "adaptations.0.weight_decay: input should be greater than or equal"),
        (stage(keep_start=1), "pretrain.0.keep_start: input should be less than 1, not 1"),
        (stage(image_size=8), "pretrain.0.image_size: input should be greater than or equal to 16, not 8"),
        (objective("cross_entropy", rotation_weight=-1), "rotation_weight: input should be greater than or equal to 0"),
        (adaptation("soft_kmeans", steps=0), "adaptations.0.steps: input should be greater than or equal to 1, not 0"),
        (adaptation("soft_kmeans", scale=0), "adaptations.0.scale: input should be greater than 0, not 0"),
        ({"embedding": {"power": 0}}, "embedding.power: input should be greater than 0, not 0"),
        ({"embedding": {"power": 2}}, "embedding.power: input should be less than or equal to 1, not 2"),
        ({"embedding": {"whitening": 0}}, "embedding.whitening: input should be greater than 0, not 0"),
        ({"embedding": {"center": "novel"}}, "embedding.center: input should be 'none' or 'base', not 'novel'"),
        ({"verification": {"pairs": 1}}, "verification.pairs: input should be greater than or equal to 2, not 1"),
        ({"verification": {"seed": -1}}, "verification.seed: input should be greater than or equal to 0, not -1"),
        ({"verification": True}, "verification must be a group of keys, not True"),
    ],
)
def test_bad_value_is_named(tmp_path: Path, tree: dict[str, Any], sentence: str) -> None:
    assert sentence in mistake(tmp_path, tree)


def test_a_switch_is_no_number() -> None:
    with pytest.raises(UserError, match=r"pretrain\.0\.objective\.margin: must be a number, not True"):
        parse_config({"pretrain": [{"objective": {"name": "triplet", "margin": True}}]}, "x.yaml")
