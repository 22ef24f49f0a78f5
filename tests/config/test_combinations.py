"""Keys of a configuration that go together, those that do not, and those that nothing would read."""

import re
from pathlib import Path
from typing import Any

import pytest

from ppfsl.config_file import parse_config
from ppfsl.errors import UserError
from tests.config.loading import adaptation, load, mistake, objective, stage


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"data": {"image_size": 84, "cached_size": 80}}, "data: cached_size must not be smaller than image_size"),
        ({"data": {"split_ratio": [0.5, 0.2, 0.2]}}, "data: split_ratio must sum to 1"),
        ({"data": {"name": "folder"}}, "data: name: folder needs folder, the path of the tree of class folders; set"),
        ({"data": {"folder": "x"}}, "data: folder belongs to name: folder, not to synthetic; set data.name to folder"),
        (
            {"validation": {"images_per_class": 15}},
            "validation: images_per_class is 15, but 1 + 15 of a class are needed, shot + query; raise it",
        ),
        ({"data": {"name": "flowers102"}}, "data: flowers102 needs a split: metadataset, fsl_ssl or article"),
        ({"backbone": {"scale": 0.5}}, "backbone: scale belongs to mobilenet_v1, not to resnet18"),
        ({"backbone": {"width": 8}}, "backbone: width belongs to conv4 and koch, not to resnet18"),
        ({"backbone": {"pools": 2}}, "backbone: pools belongs to conv4, not to resnet18"),
        ({"backbone": {"name": "koch", "pools": 2}}, "backbone: pools belongs to conv4, not to koch"),
        ({"backbone": {"name": "koch", "scale": 2}}, "backbone: scale belongs to mobilenet_v1, not to koch"),
        ({"data": {"name": "omniglot"}}, "data: omniglot needs a split: vinyals or vinyals_trainval"),
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


def test_labels_tell_equal_adaptations_apart(tmp_path: Path) -> None:
    tree = {"adaptations": [{"name": "finetune"}, {"name": "finetune", "label": "b", "entropy": "query"}]}
    assert [a.label for a in load(tmp_path, tree).adaptations] == [None, "b"]
