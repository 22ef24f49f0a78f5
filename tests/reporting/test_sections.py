"""Which run a command makes, whose weights it starts from, and what links to a section's title."""

from pathlib import Path

import pytest

from ppfsl.reporting.phrases import CHINESE, ENGLISH
from ppfsl.reporting.sections import Home, anchor, needed, run_of, weights_of

TRAIN = "python tools/train.py -c configs/flowers102/maml_conv4.yaml"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Omniglot, split of Vinyals et al.: `a_b`", "omniglot-split-of-vinyals-et-al-a_b"),
        ("The article's protocol - MobileNetV1", "the-articles-protocol---mobilenetv1"),
        ("Flowers102 `fsl_ssl`，84 像素：各阶段", "flowers102-fsl_ssl84-像素各阶段"),
    ],
)
def test_anchors_are_those_of_github(title: str, expected: str) -> None:
    assert anchor(title) == expected


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        (TRAIN, "output/flowers102/maml_conv4"),
        (f"{TRAIN} -o output_dir=output/other -o seed=1", "output/other"),
        ("python tools/train.py -c 'my configs/x.yaml'", "output/x"),
    ],
)
def test_a_run_is_in_the_folder_that_its_command_says(command: str, folder: str) -> None:
    assert run_of(command) == Path(folder)


@pytest.mark.parametrize(
    ("more", "weights"),
    [
        ("", None),
        (" -o backbone.pretrained=mobilenet_v1.safetensors", None),
        (" -o backbone.pretrained=output/a/checkpoints/best.safetensors", "output/a/checkpoints/best.safetensors"),
        (" --checkpoint output/a/checkpoints/1_cosine.safetensors", "output/a/checkpoints/1_cosine.safetensors"),
    ],
)
def test_weights_of_another_run_are_those_below_its_checkpoints(more: str, weights: str | None) -> None:
    assert weights_of(TRAIN + more) == (None if weights is None else Path(weights))


@pytest.mark.parametrize(
    ("home", "here", "english", "chinese"),
    [
        (Home("All", ""), "", "; after the command of [All](#all)", "；先运行 [All](#all) 一节的命令"),
        (
            Home("All", "MAML"),
            "Few",
            "; after the command of “MAML” in [All](#all)",
            "；先运行 [All](#all) 一节里“MAML”的命令",
        ),
        (Home("All", "MAML"), "All", "; after the command of “MAML”", "；先运行“MAML”的命令"),
    ],
)
def test_what_has_to_come_before_a_command(home: Home, here: str, english: str, chinese: str) -> None:
    command, found = f"{TRAIN} --checkpoint output/a/checkpoints/best.safetensors", {Path("output/a"): home}
    assert (needed(command, found, ENGLISH, here), needed(command, found, CHINESE, here)) == (english, chinese)
    assert needed(TRAIN, found, ENGLISH, here) == needed(command, {}, ENGLISH, here) == ""
