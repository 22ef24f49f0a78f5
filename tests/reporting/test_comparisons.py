"""Comparisons: several runs on the same episodes in one table."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.errors import UserError
from ppfsl.reporting.tables import make_tables


def evaluation(name: str, correct: list[int], **other: Any) -> dict[str, Any]:
    row = {"part": "novel", "way": 5, "shot": 1, "query": 2, "episodes": len(correct), "seed": 0, "support_set": False}
    ci95 = float(1.96 * np.std(np.asarray(correct) / 10) / np.sqrt(len(correct)))
    row |= {"adaptation": name, "transductive": False, "accuracy": float(np.mean(correct)) / 10, "ci95": ci95}
    return row | {"episode_correct": correct, "per_class": []} | other


def save(results: Path, name: str, order: int, *rows: dict[str, Any], about: str = "", **more: Any) -> None:
    folder = results / "omniglot" / name
    folder.mkdir(parents=True)
    result = {"dataset": "omniglot", "split": "vinyals", "backbone": "conv4", "pretrained": None, "seed": 0}
    result |= {"image_size": 28, "stages": [name], "versions": {"paddle": "3.3.1"}, **more}
    (folder / "result.json").write_text(json.dumps({**result, "evaluations": list(rows)}))
    (folder / "about.yaml").write_text(
        f"order: {order}\ntitle: {name.title()}\ncommand: python tools/train.py -c configs/omniglot/{name}.yaml\n"
        f"machine: 2 cores\nminutes: {order}0\ncomparison: all\n{about}"
    )


def page(tmp_path: Path, comparison: str = "order: 3\ntitle: Omniglot\nreference: first\nremark: Mind this.\n") -> str:
    (tmp_path / "results" / "omniglot" / "all.yaml").write_text(comparison)
    make_tables(tmp_path / "results", tmp_path / "results.md")
    return (tmp_path / "results.md").read_text()


def test_a_line_per_run_and_adaptation_with_paired_differences_and_reported_figures(tmp_path: Path) -> None:
    five = {"shot": 5}
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), evaluation("a", [9, 9], **five))
    rows = evaluation("b", [9, 8]), evaluation("b", [10, 9], **five), evaluation("c", [8, 6])
    save(tmp_path / "results", "second", 2, *rows, about='reported: {"5-way 1-shot": 98.8}\n')
    lines = page(tmp_path).splitlines()
    assert "| First | a | 70.00 ± 13.86 |  |  | 90.00 ± 0.00 |  |  | 10 |" in lines
    assert "| Second | b | 85.00 ± 6.93 | +15.00 ± 6.93 | 98.8 (-13.8) | 95.00 ± 6.93 | +5.00 ± 6.93 |  | 20 |" in lines
    assert "| Second | c | 70.00 ± 13.86 | +0.00 ± 0.00 | 98.8 (-28.8) |  |  |  | 20 |" in lines
    assert "* Second: `python tools/train.py -c configs/omniglot/second.yaml` (second)" in lines
    assert "Mind this." in lines and "## Omniglot" in lines
    header = next(line for line in lines if line.startswith("| method"))
    assert header.count("|") == lines[lines.index(header) + 1].count("|") == lines[lines.index(header) + 2].count("|")


def test_without_figures_of_papers_there_are_no_columns_for_them(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]))
    lines = page(tmp_path).splitlines()
    assert "| method | adaptation | 5-way 1-shot | difference | minutes |" in lines
    assert "| First | a | 70.00 ± 13.86 |  | 10 |" in lines


def test_every_way_has_a_table_of_its_own(tmp_path: Path) -> None:
    many = {"way": 20}
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), evaluation("a", [16, 12], **many))
    save(tmp_path / "results", "second", 2, evaluation("b", [9, 8]))
    save(tmp_path / "results", "third", 3, evaluation("c", [16, 16], **many), about='reported: {"20-way 1-shot": 98}\n')
    lines = page(tmp_path).splitlines()
    heads = [line for line in lines if line.startswith("| method")]
    assert ["5-way 1-shot" in line for line in heads] == [True, False]
    assert ["20-way 1-shot" in line for line in heads] == [False, True]
    few, several = (lines[lines.index(head) + 2 : lines.index(head) + 4] for head in heads)
    assert [line.split(" | ")[0] for line in few] == ["| First", "| Second"]
    assert [line.split(" | ")[0] for line in several] == ["| First", "| Third"]
    assert "| Third | c | 160.00 ± 0.00 | +5.00 ± 6.93 | 98.0 (+62.0) | 30 |" in several


def test_what_a_comparison_was_made_with_is_said_once(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]))
    more = {"seed": 7, "versions": {"paddle": "3.4.0"}, "split": "vinyals_trainval", "stages": ["cosine", "triplet"]}
    save(tmp_path / "results", "second", 2, evaluation("b", [9, 8]), evaluation("c", [9, 8, 7], shot=5), **more)
    save(tmp_path / "results", "third", 3, evaluation("b", [9, 8]), stages=[])
    lines = page(tmp_path).splitlines()
    made = "Seed 0 or 7; PaddlePaddle 3.3.1 or 3.4.0; 2 or 3 episodes of each task, 2 queries a class; made on 2 cores."
    assert f"{made} Differences are to the first row of “First”." in lines
    command = "python tools/train.py -c configs/omniglot"
    assert f"* First: `{command}/first.yaml` (first)" in lines
    assert f"* Second: `{command}/second.yaml` (cosine, then triplet; split `vinyals_trainval`)" in lines
    assert f"* Third: `{command}/third.yaml` (no training)" in lines
    chinese = (tmp_path / "results_zh.md").read_text(encoding="utf-8")
    made = "种子 0 或 7；PaddlePaddle 3.3.1 或 3.4.0；每种任务 2 或 3 个，每类 2 个查询；机器：2 cores。"
    assert f"{made}差异是与“First”的第一行相比。" in chinese
    assert "second.yaml`（cosine，然后 triplet；划分 `vinyals_trainval`）" in chinese


def test_each_command_names_its_machine_where_there_are_several(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]))
    save(tmp_path / "results", "second", 2, evaluation("b", [9, 8]))
    about = tmp_path / "results" / "omniglot" / "second" / "about.yaml"
    about.write_text(about.read_text().replace("2 cores", "4 cores"))
    text = page(tmp_path)
    assert "made on the machines that the commands' lines name. " in text
    assert "first.yaml` (first; 2 cores)\n" in text and "second.yaml` (second; 4 cores)\n" in text


def test_what_evaluates_anothers_weights_names_the_line_of_its_command(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]))
    save(tmp_path / "results", "second", 2, evaluation("b", [9, 8]))
    about = tmp_path / "results" / "omniglot" / "second" / "about.yaml"
    command = (
        "tools/eval.py -c configs/omniglot/second.yaml --checkpoint output/omniglot/first/checkpoints/1_a.safetensors"
    )
    about.write_text(about.read_text().replace("tools/train.py -c configs/omniglot/second.yaml", command))
    assert "1_a.safetensors` (second; after the command of “First”)\n" in page(tmp_path)


@pytest.mark.parametrize(
    ("row", "result"),
    [({}, {"split": "own"}), ({}, {"dataset": "flowers102"}), ({"part": "validation"}, {}), ({}, {"pictures": "x"})],
)
def test_rows_about_other_pictures_are_refused(row: dict[str, Any], result: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), pictures="y")
    save(tmp_path / "results", "second", 2, evaluation("b", [9, 8], **row), **result)
    with pytest.raises(UserError, match=r"all\.yaml: second was asked about other pictures than first; rows of one"):
        page(tmp_path)


def test_a_methods_page_is_linked_in_its_language(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), about="page: maml\n")
    assert "| [First](algorithms/maml.md) | a |" in page(tmp_path)
    assert "| [First](algorithms/maml_zh.md) | a |" in (tmp_path / "results_zh.md").read_text(encoding="utf-8")


def test_differences_are_to_the_references_first_adaptation(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), evaluation("b", [10, 10]))
    save(tmp_path / "results", "second", 2, evaluation("c", [9, 7]))
    assert "| Second | c | 80.00 ± 13.86 | +10.00 ± 0.00 | 20 |" in page(tmp_path)


def test_rows_of_a_comparison_have_no_section_of_their_own(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]))
    assert "## First" not in page(tmp_path)


def test_other_episodes_are_not_compared(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), about='reported: {"5-way 1-shot": 98.8}\n')
    save(tmp_path / "results", "second", 2, evaluation("b", [9, 8], seed=1))
    assert "| Second | b | 85.00 ± 6.93 |  |  | 20 |" in page(tmp_path)


def test_transductive_evaluations_stand_apart_and_the_fixed_support_set_is_left_out(tmp_path: Path) -> None:
    fixed = evaluation("a", [1], support_set=True)
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), evaluation("t", [9, 8], transductive=True), fixed)
    inductive, transductive = page(tmp_path).split("\n**transductive**\n")
    assert "| First | t |" not in inductive and "| First | t | 85.00" in transductive
    assert "10.00" not in inductive


def test_verification_has_a_table(tmp_path: Path) -> None:
    verification = {"similarity": "cosine similarity", "pairs": 400, "roc_auc": 0.98765, "equal_error_rate": 0.0512}
    verification |= {"accuracy": 0.9475, "ci95": 0.0219}
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), verification=verification)
    assert "| First | cosine similarity | 400 | 0.9877 | 5.12 | 94.75 ± 2.19 |" in page(tmp_path)


def test_a_missing_comparison_file_and_a_missing_reference_are_named(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]))
    with pytest.raises(UserError, match=r"all\.yaml is missing or malformed"):
        make_tables(tmp_path / "results", tmp_path / "results.md")
    with pytest.raises(UserError, match=r"all\.yaml: the reference nobody is none of its rows"):
        page(tmp_path, "order: 3\ntitle: Omniglot\nreference: nobody\n")


def test_the_chinese_page_has_the_same_lines_under_chinese_words(tmp_path: Path) -> None:
    verification = {"similarity": "cosine similarity", "pairs": 400, "roc_auc": 0.98765, "equal_error_rate": 0.0512}
    verification |= {"accuracy": 0.9475, "ci95": 0.0219}
    said = 'title_zh: 其一\nreported: {"5-way 1-shot": 98.8}\n'
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]), about=said, verification=verification)
    page(tmp_path, "order: 3\ntitle: Omniglot\ntitle_zh: 字符\nreference: first\nremark: Mind.\nremark_zh: 注意。\n")
    lines = (tmp_path / "results_zh.md").read_text(encoding="utf-8").splitlines()
    assert "## 字符" in lines and "注意。" in lines and "Mind." not in lines
    assert "| 方法 | adaptation | 5-way 1-shot | 配对差异 | 论文报告 | 分钟 |" in lines
    assert "| 其一 | a | 70.00 ± 13.86 |  | 98.8 (-28.8) | 10 |" in lines
    assert "| 其一 | 余弦相似度 | 400 | 0.9877 | 5.12 | 94.75 ± 2.19 |" in lines
    assert "* 其一：`python tools/train.py -c configs/omniglot/first.yaml`（first）" in lines


def test_other_seeds_show_as_spread_below_the_tables(tmp_path: Path) -> None:
    rows = evaluation("a", [8, 6]), evaluation("b", [8, 6], shot=5), evaluation("t", [9, 9], transductive=True)
    save(tmp_path / "results", "first", 1, *rows)
    save(tmp_path / "results", "second", 2, evaluation("c", [9, 9]))
    for seed, correct in ((2, [6, 6]), (1, [10, 6])):
        save(tmp_path / "results", f"again_{seed}", 3, evaluation("a", correct), seed=seed, stages=["first"])
        about = tmp_path / "results" / "omniglot" / f"again_{seed}" / "about.yaml"
        about.write_text(about.read_text().replace("comparison: all", "repeats: first"))
    text = page(tmp_path)
    inductive, transductive = text.split("\n**transductive**\n")
    assert "| First | 5-way 1-shot | t | 0, 1, 2 |  |" in transductive and "| t |" not in inductive
    lines = text.splitlines()
    assert "| method | task | adaptation | seeds | mean (sd) |" in lines
    assert "| First | 5-way 1-shot | a | 0, 1, 2 | 70.00 (10.00) |" in lines  # 70, 80 and 60 %
    assert "| First | 5-way 5-shot | b | 0, 1, 2 |  |" in lines
    assert not any(line.startswith("| Second | 5-way") for line in lines)
    command = "* First, another seed: `python tools/train.py -c configs/omniglot/again_{}.yaml` (2 cores)"
    again = [command.format(seed) for seed in (1, 2)]
    assert [line for line in lines if "another seed" in line] == again
    assert "| Again_1 |" not in text and "Seed 0; " in text


def test_commands_are_folded_away(tmp_path: Path) -> None:
    save(tmp_path / "results", "first", 1, evaluation("a", [8, 6]))
    folded = page(tmp_path).split("<details")[1].split("</details>")[0]
    assert "<summary>The commands, and what each run trained</summary>\n\n* First: `python" in folded
