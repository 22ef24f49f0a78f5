"""Configuration files: inheritance, overrides, names, and written back to YAML as they were read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ppfsl.config import Config, FinetuneConfig, TripletConfig
from ppfsl.config_file import config_name, evaluation_folder, load_config, parse_config, refuse_unread, to_yaml
from ppfsl.errors import UserError
from tests.config.loading import STAGE, load, mistake, write

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name != "_base_")


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


def test_a_base_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home" / "a.yaml", {"seed": 4})
    assert load(tmp_path, {"_base_": "~/a.yaml"}).seed == 4


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
        ("seed: 1\ndevice: cpu\nseed: 2", "c.yaml, line 3: 'seed' stands there twice; leave one out"),
        ("data:\n  name: synthetic\n  'name': folder", "c.yaml, line 3: 'name' stands there twice; leave one out"),
        ("pretrain: [{epochs: 1, epochs: 2}]", "c.yaml, line 1: 'epochs' stands there twice; leave one out"),
        ("[" * 3000, "c.yaml is not valid YAML: it is nested too deeply"),
        ("", "c.yaml is empty; write keys into it, or {} where the defaults are all that is wanted"),
        ("# seed: 1\n", "c.yaml is empty; write keys into it, or {} where the defaults are all that is wanted"),
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
        ("data={name: a, name: b}", "-o data={name: a, name: b}: 'name' stands there twice; leave one out"),
        ("data=" + "[" * 3000, ": the value is not valid YAML; quote it"),
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


@pytest.mark.parametrize(
    ("output_dir", "checkpoint", "folder"),
    [
        (None, "out/two_s1/checkpoints/best.safetensors", "out/two_s1/eval_best"),
        (None, "weights/best.safetensors", "output/mine/eval_best"),
        ("out/two", "out/two_s1/checkpoints/1_cosine.safetensors", "out/two_s1/eval_1_cosine"),
        ("out/two", "weights/best.safetensors", "out/two/eval_best"),
        ("elsewhere", "out/two_s1/checkpoints/best.safetensors", "elsewhere"),
    ],
)
def test_where_an_evaluation_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_dir: str | None, checkpoint: str, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "two" / "checkpoints").mkdir(parents=True)  # so this is a run's folder
    config = parse_config({"output_dir": output_dir}, "a test")
    assert evaluation_folder(config, "mine", Path(checkpoint)) == Path(folder)


def test_an_evaluation_that_is_started_beside_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run" / "checkpoints")
    found = evaluation_folder(parse_config({}, "a test"), "mine", Path("best.safetensors"))
    assert found == tmp_path / "run" / "eval_best"


def test_keys_beside_a_checkpoint_that_are_read_pass() -> None:
    refuse_unread(["data={}", "data={cache_dir: x}", "embedding={mirror: true}", "adaptations.0.name=class_mean"])
    with pytest.raises(
        UserError, match=r"^-o data=\{split: x\}: nothing reads data\.split where --checkpoint is given"
    ):
        refuse_unread(["data={split: x}"])
