"""Configuration files: inheritance, overrides, and a sentence for every mistake."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = None

from ppfsl.config import AugmentationConfig, Config, DataConfig, FinetuneConfig, TripletConfig
from ppfsl.config_file import config_name, load_config, parse_config, to_yaml
from ppfsl.errors import UserError

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "_base_")


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value), encoding="utf-8")
    return path


def load(tmp_path: Path, value: Any, *overrides: str) -> Config:
    return load_config(write(tmp_path / "c.yaml", value), overrides)


def mistake(tmp_path: Path, value: Any, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(tmp_path, value, *overrides)
    text = " ".join(str(caught.value).split())  # as the command line prints it
    return text.replace(f"{tmp_path}/", "")


STAGE = {"objective": {"name": "cross_entropy"}}


# --- defaults


def test_empty_file_is_the_default_configuration(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "{}"):
        assert load(tmp_path, text) == Config()


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


# --- inheritance


def test_file_wins_over_its_base_key_by_key(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", {"seed": 3, "data": {"image_size": 64, "channels": 1}})
    config = load(tmp_path, {"_base_": "base.yaml", "data": {"image_size": 32}})
    assert (config.seed, config.data.image_size, config.data.channels) == (3, 32, 1)


def test_bases_nest_and_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "er" / "a.yaml", {"seed": 1, "threads": 2, "method": "a"})
    write(tmp_path / "deep" / "b.yaml", {"_base_": "er/a.yaml", "threads": 3, "method": "b"})
    config = load(tmp_path, {"_base_": "deep/b.yaml", "method": "c"})
    assert (config.seed, config.threads, config.method) == (1, 3, "c")


def test_later_bases_win_over_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {"seed": 1, "threads": 2})
    write(tmp_path / "b.yaml", {"seed": 5})
    config = load(tmp_path, {"_base_": ["a.yaml", "b.yaml"]})
    assert (config.seed, config.threads) == (5, 2)


def test_lists_are_replaced(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {"pretrain": [STAGE, STAGE], "evaluation": {"shot": [1, 5]}})
    config = load(tmp_path, {"_base_": "a.yaml", "pretrain": [STAGE], "evaluation": {"shot": [2]}})
    assert (len(config.pretrain), config.evaluation.shot) == (1, (2,))


def test_one_base_may_be_reached_twice(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {"seed": 1})
    write(tmp_path / "b.yaml", {"_base_": "a.yaml"})
    assert load(tmp_path, {"_base_": ["a.yaml", "b.yaml"]}).seed == 1


def test_null_unsets_what_a_base_sets(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {"output_dir": "x", "data": {"cached_size": 96}})
    config = load(tmp_path, {"_base_": "a.yaml", "output_dir": None, "data": {"cached_size": None}})
    assert (config.output_dir, config.data.cached_size) == (None, None)


def test_cycle_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {"_base_": "b.yaml"})
    write(tmp_path / "b.yaml", {"_base_": "a.yaml"})
    with pytest.raises(UserError, match=r"a\.yaml inherits from itself through _base_; remove one of the references"):
        load_config(tmp_path / "a.yaml")
    assert "c.yaml inherits from itself" in mistake(tmp_path, {"_base_": "c.yaml"})


def test_missing_base_is_named(tmp_path: Path) -> None:
    assert mistake(tmp_path, {"_base_": "none.yaml"}) == "there is no configuration file none.yaml"


@pytest.mark.parametrize("base", [3, None, {"a": "b.yaml"}, [3], [["a.yaml"]], True])
def test_base_must_be_a_file_or_files(tmp_path: Path, base: Any) -> None:
    assert "_base_ must name a file or a list of files, not " in mistake(tmp_path, {"_base_": base})


# --- files


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: [1", "c.yaml, line 1 is not valid YAML"),
        ("a: b: c", "c.yaml, line 1 is not valid YAML: mapping values are not allowed here"),
        (
            "seed: !!python/object/apply:os.getcwd []",
            "c.yaml, line 1 is not valid YAML: could not determine a construc",
        ),
        ("output_dir: 2024-02-31", "c.yaml is not valid YAML: day "),
        ("\x00", "c.yaml is not valid YAML"),
        ("- 1", "c.yaml must hold keys and values, not a list"),
        ("word", "c.yaml must hold keys and values, not a str"),
    ],
)
def test_malformed_file_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in mistake(tmp_path, text)


def test_missing_file_folder_and_other_encodings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no configuration file \S+none\.yaml"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"cannot be read: .*[Ii]s a directory"):
        load_config(tmp_path)
    (tmp_path / "c.yaml").write_bytes("method: é".encode("latin-1"))
    with pytest.raises(UserError, match=r"c\.yaml cannot be read: .*utf-8"):
        load_config(tmp_path / "c.yaml")


# --- overrides


def test_overrides_reach_any_depth(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        {"pretrain": [STAGE, STAGE], "seed": 1},
        "seed=7",
        "evaluation.support_set.classes=[5, 9]",
        "evaluation.shot=3",
        "pretrain.1.objective.batch_size=8",
        "pretrain.0.augmentation={flip: true}",
        "output_dir=a=b",
        "data.cache_dir=",
        "method='12'",
    )
    assert (config.seed, config.evaluation.support_set.classes, config.evaluation.shot) == (7, (5, 9), (3,))
    assert [stage.objective.batch_size for stage in config.pretrain] == [64, 8]
    assert config.pretrain[0].augmentation.flip
    assert (config.output_dir, config.data.cache_dir, config.method) == ("a=b", None, "12")


def test_later_overrides_win(tmp_path: Path) -> None:
    assert load(tmp_path, {}, "seed=1", "seed=2").seed == 2


def test_overrides_create_groups_that_the_file_lacks(tmp_path: Path) -> None:
    assert load(tmp_path, "backbone:\n", "backbone.name=conv4", "backbone.width=8").backbone.width == 8


def test_override_wins_over_bases(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {"seed": 1, "pretrain": [STAGE]})
    assert load(tmp_path, {"_base_": "a.yaml"}, "pretrain.0.epochs=3").pretrain[0].epochs == 3


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed", "-o seed: write it as key.sub=value"),
        ("=3", "-o =3: write it as key.sub=value"),
        ("seed=[1", "-o seed=[1: the value is not valid YAML; quote it"),
        ("output_dir=2024-02-31", "-o output_dir=2024-02-31: the value is not valid YAML; quote it"),
        ("pretrain.1.epochs=3", "'1' is not one of the list's places 0 to 0"),
        ("pretrain.-1.epochs=3", "'-1' is not one of the list's places 0 to 0"),
        ("pretrain.epochs=3", "'epochs' is not one of the list's places 0 to 0"),
        ("pretrain.٣.epochs=3", "is not one of the list's places"),
        ("seed.x=3", "there are no keys below 'x', whose parent is 1"),
        ("data.image_sise=64", "unknown key 'data.image_sise'; did you mean 'data.image_size'?"),
        ("data..name=x", "unknown key 'data.'"),
        ("_base_=x.yaml", "unknown key '_base_'"),
    ],
)
def test_bad_override_is_named(tmp_path: Path, override: str, sentence: str) -> None:
    assert sentence in mistake(tmp_path, {"seed": 1, "pretrain": [STAGE]}, override)


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
        ({1: 2}, "c.yaml: 1: keys should be strings"),
    ],
)
def test_unknown_key_names_the_nearest(tmp_path: Path, tree: Any, sentence: str) -> None:
    assert sentence in mistake(tmp_path, tree)


# --- values


def stage(**changes: Any) -> dict[str, Any]:
    return {"pretrain": [{**STAGE, **changes}]}


def objective(name: str, **changes: Any) -> dict[str, Any]:
    return stage(objective={"name": name, **changes})


def adaptation(name: str, **changes: Any) -> dict[str, Any]:
    return {"adaptations": [{"name": name, **changes}]}


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"seed": "x"}, "c.yaml: seed: input should be a valid integer, not 'x'"),
        ({"seed": -1}, "c.yaml: seed: input should be greater than or equal to 0, not -1"),
        ({"seed": 1.0}, "seed: input should be a valid integer, not 1.0"),
        ({"seed": True}, "seed: input should be a valid integer, not True"),
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
        ({"evaluation": {"shot": 0}}, "evaluation.shot.0: input should be greater than or equal to 1, not 0"),
        ({"evaluation": {"shot": []}}, "evaluation.shot must be a list with one entry or more, not []"),
        ({"evaluation": {"way": 1}}, "evaluation.way.0: input should be greater than or equal to 2, not 1"),
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


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"data": {"image_size": 84, "cached_size": 80}}, "data: cached_size must not be smaller than image_size"),
        ({"data": {"split_ratio": [0.5, 0.2, 0.2]}}, "data: split_ratio must sum to 1"),
        ({"data": {"name": "folder"}}, "data: folder belongs to name: folder, which needs it"),
        ({"data": {"folder": "x"}}, "data: folder belongs to name: folder, which needs it"),
        ({"data": {"name": "flowers102"}}, "data: flowers102 needs a split: metadataset, fsl_ssl or article"),
        ({"backbone": {"scale": 0.5}}, "backbone: scale belongs to mobilenet_v1, not to resnet18"),
        ({"backbone": {"width": 8}}, "backbone: width belongs to conv4 and koch, not to resnet18"),
        ({"backbone": {"pools": 2}}, "backbone: pools belongs to conv4, not to resnet18"),
        ({"backbone": {"name": "koch", "pools": 2}}, "backbone: pools belongs to conv4, not to koch"),
        ({"backbone": {"name": "koch", "scale": 2}}, "backbone: scale belongs to mobilenet_v1, not to koch"),
        ({"data": {"name": "omniglot"}}, "data: omniglot needs a split: vinyals"),
        ({"evaluation": {"way": [5, 20, 5]}}, "c.yaml: evaluation: way lists a number twice"),
        ({"evaluation": {"shot": [1, 1]}}, "c.yaml: evaluation: shot lists a number twice"),
        (
            objective("siamese", merge="concatenation"),
            "pretrain.0.objective: merge: concatenation needs a hidden layer to compare; set hidden, such as [64]",
        ),
        (
            objective("memory_augmented", heads=8, slots=4),
            "c.yaml: pretrain.0.objective: 8 heads need as many slots, not 4; raise slots or lower heads",
        ),
        (objective("cross_entropy", scale=3), "pretrain.0.objective: scale belongs to the cosine classifier"),
        (stage(schedule={"name": "step"}), "pretrain.0.schedule: milestones belong to the step schedule"),
        (stage(schedule={"milestones": [1]}), "pretrain.0.schedule: milestones belong to the step schedule"),
        (stage(augmentation={"crop_area": [0.9, 0.2]}), "pretrain.0.augmentation: crop_area must be two shares"),
        (stage(augmentation={"crop_area": [0, 0.2]}), "pretrain.0.augmentation: crop_area must be two shares"),
        (
            stage(objective={"name": "cosine"}, trainable="head"),
            "pretrain.0: trainable: head leaves nothing to train, since cosine has no layers of its own",
        ),
        (
            stage(objective={"name": "prototypical"}, trainable="head"),
            "pretrain.0: trainable: head leaves nothing to train, since prototypical has no layers of its own",
        ),
        (
            stage(objective={"name": "matching"}, trainable="head"),
            "pretrain.0: trainable: head leaves nothing to train, since matching has no layers of its own",
        ),
        (
            {"adaptations": [{"name": "class_mean"}, {"name": "class_mean"}]},
            "c.yaml: two adaptations are called 'class_mean'; give each a label of its own",
        ),
        (
            {"backbone": {"projection": "none"}, **stage(trainable="projection")},
            "c.yaml: trainable: projection needs backbone.projection, which is none",
        ),
        (
            stage(image_size=64, trainable="projection"),
            "pretrain.0: image_size goes with training the backbone, not with trainable: projection; leave it out",
        ),
        (
            stage(keep_start=0.5, trainable="head"),
            "pretrain.0: keep_start goes with training the backbone, not with trainable: head; leave it out",
        ),
        (
            stage(objective={"name": "cross_entropy", "rotation_weight": 1}, trainable="projection"),
            "pretrain.0: rotation_weight goes with training the backbone, not with trainable: projection; leave it out",
        ),
        (
            stage(decayed="head"),
            "pretrain.0: decayed: head says what optimizer.weight_decay shrinks, which is 0; set it, or leave",
        ),
        (
            stage(objective={"name": "cosine"}, decayed="head", optimizer={"weight_decay": 1.0}),
            "pretrain.0: decayed: head leaves nothing to shrink, since cosine has no weights of its own",
        ),
        (
            stage(objective={"name": "meta_baseline"}, decayed="head", optimizer={"weight_decay": 1.0}),
            "pretrain.0: decayed: head leaves nothing to shrink, since meta_baseline has no weights of its own",
        ),
        (
            stage(objective={"name": "relation"}, keep_start=0.5),
            "pretrain.0: keep_start does not go with relation, whose method would not know the weights that it ends",
        ),
        (
            stage(keep_start=0.5),
            "c.yaml: pretrain.0.keep_start needs trained weights; set backbone.pretrained, or leave",
        ),
        (
            {"backbone": {"name": "conv4"}, **stage(image_size=64)},
            "pretrain.0.image_size is 64, but the weights of conv4 go with one size; make it data.image_size, 84, or "
            "take resnet12, resnet18, mobilenet_v1",
        ),
        (
            stage(image_size=96),
            "c.yaml: pretrain.0.image_size is 96, but cached images have 84 px; raise data.cached_size, or set "
            "augmentation.crop to resized",
        ),
        (
            {"data": {"name": "omniglot", "split": "vinyals"}, **objective("cross_entropy", rotation_weight=1)},
            "c.yaml: pretrain.0.objective.rotation_weight does not go with data.rotations, by which a turned character",
        ),
        (
            {"embedding": {"mirror": True}, **objective("relation")},
            "c.yaml: the keys of embedding do not go with relation, whose layers go with embeddings as",
        ),
        (
            {"embedding": {"center": "base"}, **adaptation("finetune", trainable="all")},
            "c.yaml: the keys of embedding do not go with finetune with trainable: all, which trains the",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_named(tmp_path: Path, tree: dict[str, Any], sentence: str) -> None:
    assert sentence in mistake(tmp_path, tree)


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


def test_sizes_that_go_together(tmp_path: Path) -> None:
    assert load(tmp_path, stage(image_size=64)).pretrain[0].image_size == 64
    tree = {"data": {"image_size": 84, "cached_size": 96}, **stage(image_size=96)}
    assert load(tmp_path, tree).pretrain[0].image_size == 96
    assert load(tmp_path, stage(image_size=96, augmentation={"crop": "resized"})).pretrain[0].image_size == 96
    conv4 = {"backbone": {"name": "conv4"}, **stage(image_size=84)}
    assert load(tmp_path, conv4).pretrain[0].image_size == 84


def test_weights_are_kept_where_there_are_some(tmp_path: Path) -> None:
    first = {**stage(keep_start=0.5), "backbone": {"pretrained": "imagenet"}}
    assert load(tmp_path, first).pretrain[0].keep_start == 0.5
    second = {
        "pretrain": [{"objective": {"name": "cross_entropy"}}, {"objective": {"name": "cosine"}, "keep_start": 0.5}]
    }
    assert load(tmp_path, second).pretrain[1].keep_start == 0.5


@pytest.mark.parametrize("name", ["nearest_shot", "prototypical", "matching", "baseline", "baseline++", "soft_kmeans"])
def test_an_adaptation_that_learns_nothing_beforehand_needs_no_stage(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, {"adaptations": [{"name": name}]}).adaptations[0].name == name


def test_labels_tell_equal_adaptations_apart(tmp_path: Path) -> None:
    tree = {"adaptations": [{"name": "finetune"}, {"name": "finetune", "label": "b", "entropy": "query"}]}
    assert [a.label for a in load(tmp_path, tree).adaptations] == [None, "b"]


def test_misspelling_is_named_before_what_it_leaves_missing(tmp_path: Path) -> None:
    text = mistake(tmp_path, {"seed": -1, "pretrain": [{"objektive": {"name": "cosine"}}]})
    assert "unknown key 'pretrain.0.objektive'" in text


# --- resolved


def test_resolved_yaml_loads_back_to_the_same_configuration(tmp_path: Path) -> None:
    tree = {
        "method": "花",
        "data": {"split_ratio": [0.5, 0.25, 0.25], "image_size": 32},
        "backbone": {"name": "conv4", "width": 8, "pools": 2, "normalization": "inverted", "projection": "none"},
        "pretrain": [
            {**STAGE, "clip_norm": 0.1, "schedule": {"name": "step", "milestones": [0.5, 2]}, "patience": 2},
            {"objective": {"name": "triplet", "margin": 1e-7, "mining": "semi_hard"}, "steps_per_epoch": 3},
            {"objective": {"name": "contrastive", "margin": 0.5}},
            {"objective": {"name": "siamese", "merge": "concatenation", "hidden": [64, 8]}},
            {"objective": {"name": "prototypical", "metric": "cosine", "temperature": 0.1, "way": 20}},
            {"objective": {"name": "matching", "context": "full", "processing_steps": 3}},
            {"objective": {"name": "meta_baseline", "scale": 5.0, "shot": 5}},
            {"objective": {"name": "anil", "inner_steps": 3, "inner_lr": 0.2}},
            {"objective": {"name": "maml", "first_order_epochs": 2, "batch_norm": "running"}},
            {"objective": {"name": "meta_sgd", "inner_lr": 0.2}},
            {"objective": {"name": "reptile", "inner_batch": 4, "batch_norm": "support_statistics"}},
            {"objective": {"name": "lstm_meta_learner", "hidden": 7, "inner_lr": 0.01}},
            {"objective": {"name": "learned_optimizer", "hidden": 7, "scale": 3.0}},
            {"objective": {"name": "memory_augmented", "instances": 4, "slots": 9, "heads": 2, "decay": 0.0}},
            {"objective": {"name": "relation", "width": 8, "hidden": 4, "episodes_per_batch": 3}},
        ],
        "adaptations": [
            {"name": "class_mean"},
            {"name": "finetune", "entropy": "query", "trainable": "all"},
            {"name": "nearest_shot", "shots": "mean"},
            {"name": "prototypical", "metric": "cosine"},
            {"name": "matching", "temperature": 0.1},
            {"name": "relation"},
            {"name": "baseline", "dampening": 0.0},
            {"name": "baseline++", "scale": 4.0},
        ],
        "evaluation": {"shot": 3, "support_set": {"classes": [3, 1]}},
        "verification": {"pairs": 100},
    }
    config = load(tmp_path, tree)
    again = load_config(write(tmp_path / "resolved.yaml", to_yaml(config)))
    assert again == config
    assert isinstance(again.pretrain[1].objective, TripletConfig)
    assert isinstance(again.adaptations[1], FinetuneConfig)
    assert to_yaml(again) == to_yaml(config)
    assert "method: 花" in to_yaml(config)


def test_resolved_yaml_holds_every_key() -> None:
    assert yaml.safe_load(to_yaml(Config())) == Config().model_dump(mode="json")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert load_config(write(tmp_path / "resolved.yaml", to_yaml(config))) == config


def test_some_configurations_are_shipped() -> None:
    assert len(SHIPPED) >= 4


def test_plain_mapping_needs_no_file() -> None:
    assert parse_config({"seed": 4}, "here").seed == 4
    with pytest.raises(UserError, match=r"^here: unknown key 'sede'"):
        parse_config({"sede": 4}, "here")


# --- names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("configs/flowers102/baseline.yaml", "flowers102/baseline"),
        ("configs/quickstart.yaml", "quickstart"),
        ("/a/configs/b/configs/c/d.yaml", "c/d"),
        ("/tmp/mine.yaml", "mine"),
        ("mine.v2.yaml", "mine.v2"),
    ],
)
def test_configuration_name(path: str, name: str) -> None:
    assert config_name(Path(path)) == name


def test_relative_paths_count_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs" / "x").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "configs" / "x")
    assert config_name(Path("a.yaml")) == "x/a"


# --- requirements


def test_requirements_file_lists_the_packages_dependencies() -> None:
    if tomllib is None:
        pytest.skip("this Python cannot read pyproject.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = [*project["dependencies"], *project["optional-dependencies"]["visualdl"]]
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert [line for line in lines if line] == expected
    assert all(re.fullmatch(r"[a-z0-9-]+>=[\d.]+", line) for line in expected)


def test_a_switch_is_no_number() -> None:
    with pytest.raises(UserError, match=r"pretrain\.0\.objective\.margin: must be a number, not True"):
        parse_config({"pretrain": [{"objective": {"name": "triplet", "margin": True}}]}, "x.yaml")


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        (stage(optimizer={"name": "adam", "momentum": 0.5}), "optimizer: momentum belongs to name: momentum; leave it"),
        (
            stage(schedule={"name": "cosine", "gamma": 0.5}),
            "schedule: gamma belongs to the step schedule; leave it out",
        ),
        (
            stage(augmentation={"crop_area": [0.5, 1.0]}),
            "augmentation: crop_area belongs to crop: resized; leave it out",
        ),
        (
            {"adaptations": [{"name": "finetune", "entropy": "none", "entropy_weight": 2.0}]},
            "adaptations.0: entropy_weight belongs to entropy: support or query; leave it out",
        ),
        (
            objective("matching", processing_steps=3),
            "pretrain.0.objective: processing_steps belongs to context: full; leave it out",
        ),
        (
            {"data": {"name": "flowers102", "split": "metadataset", "rotations": False}},
            "data: rotations belongs to name: omniglot; leave it out",
        ),
        (adaptation("baseline", scale=4.0), "adaptations.0: scale belongs to name: baseline++; leave it out"),
        (
            objective("maml", order=1, first_order_epochs=3),
            "pretrain.0.objective: first_order_epochs belongs to order: 2; leave it out",
        ),
        (
            {"pretrain": [{"objective": {"name": "maml", "first_order_epochs": 3}, "epochs": 3}]},
            "pretrain.0: first_order_epochs is 3, but the stage has 3 epochs; lower it, or set order: 1",
        ),
        (objective("maml", order=True), "pretrain.0.objective.order: must be a whole number, not True"),
        (objective("maml", order=1.0), "pretrain.0.objective.order: must be a whole number, not 1.0"),
        (objective("maml", order=3), "pretrain.0.objective.order: input should be 1 or 2"),
        (
            objective("maml", order=1, first_order_epochs=4),
            "pretrain.0.objective: first_order_epochs belongs to order: 2; leave it out",
        ),
    ],
)
def test_a_key_that_nothing_reads_is_refused(tree: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=re.escape(sentence)):
        parse_config(tree, "x.yaml")


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


def test_what_an_adaptation_leaves_open_without_such_a_stage_is_the_objectives_default() -> None:
    stages = [{"objective": {"name": "prototypical", "metric": "cosine"}}, {"objective": {"name": "cross_entropy"}}]
    config = parse_config({"pretrain": stages, "adaptations": [{"name": "prototypical"}, {"name": "matching"}]}, "x")
    prototypical, matching = config.adaptations
    assert (prototypical.metric, prototypical.temperature) == ("squared_euclidean", 1.0)
    assert (matching.context, matching.temperature) == ("none", 1.0)
