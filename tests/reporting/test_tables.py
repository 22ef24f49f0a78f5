"""docs/results.md and its Chinese twin: every figure comes from a result file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppfsl.errors import UserError
from ppfsl.reporting import wording
from ppfsl.reporting.pairing import paired_difference
from ppfsl.reporting.phrases import CHINESE, ENGLISH
from ppfsl.reporting.tables import MOST_CLASSES, add_row, make_tables

ABOUT = "order: {order}\ntitle: {title}\ncommand: python tools/train.py -c x.yaml\nmachine: 2 cores\nminutes: 3\n"


def evaluation(name: str, correct: list[int], **other: Any) -> dict[str, Any]:
    accuracy = float(np.mean(correct)) / 10
    ci95 = float(1.96 * np.std(np.asarray(correct) / 10) / np.sqrt(len(correct)))
    row = {"part": "novel", "way": 2, "shot": 1, "query": 5, "episodes": len(correct), "seed": 0, "support_set": False}
    row |= {"adaptation": name, "transductive": False, "accuracy": accuracy, "ci95": ci95, "episode_correct": correct}
    row["per_class"] = [{"label": 7, "name": "sweet | pea", "correct": 3, "total": 5, "accuracy": 0.6}]
    return row | other


def save(
    folder: Path, order: int, title: str, *rows: dict[str, Any], extra: str = "", seed: int = 3, **facts: Any
) -> None:
    folder.mkdir(parents=True)
    result = {"dataset": "flowers102", "split": "fsl_ssl", "backbone": "conv4", "pretrained": None, "seed": seed}
    result |= {"image_size": 84, "stages": ["cross_entropy", "cosine"], "versions": {"paddle": "3.3.1"}, **facts}
    (folder / "result.json").write_text(json.dumps({**result, "evaluations": list(rows)}))
    (folder / "about.yaml").write_text(ABOUT.format(order=order, title=title) + extra)


def test_paired_difference_is_the_mean_of_the_episodes_differences() -> None:
    first, second = evaluation("a", [8, 6, 10, 4]), evaluation("b", [9, 6, 9, 8])
    difference, interval = paired_difference(second, first)
    each = np.asarray([0.1, 0.0, -0.1, 0.4])
    assert difference == pytest.approx(each.mean())
    assert interval == pytest.approx(1.96 * each.std() / 2)


def test_sections_in_order_with_their_figures(tmp_path: Path) -> None:
    save(tmp_path / "results" / "b", 2, "Second", evaluation("class_mean", [5, 5]))
    rows = evaluation("class_mean", [8, 6]), evaluation("finetune", [9, 8])
    save(tmp_path / "results" / "a", 1, "First", *rows)
    assert make_tables(tmp_path / "results", tmp_path / "results.md") == 2
    page = (tmp_path / "results.md").read_text()
    assert page.index("## First") < page.index("## Second")
    assert "| 2 | 1 | novel | class_mean | 70.00 ± 13.86 |  | 2 |" in page
    assert "| 2 | 1 | novel | finetune | 85.00 ± 6.93 | +15.00 ± 6.93 | 2 |" in page
    assert "split `fsl_ssl`; conv4 at 84 px; pretrained weights: none (random initialisation)" in page
    assert "cross_entropy, then cosine; seed 3; PaddlePaddle 3.3.1; 5 queries a class; 3 minutes on 2 cores.\n" in page


def test_other_seeds_show_as_spread(tmp_path: Path) -> None:
    rows = evaluation("class_mean", [8, 6]), evaluation("finetune", [9, 8])
    save(tmp_path / "results" / "a", 1, "First", *rows)
    for order, seed, correct in ((2, 9, [6, 6]), (3, 4, [10, 6])):
        fixed = evaluation("class_mean", [0, 0], support_set=True)
        again = evaluation("class_mean", correct), fixed, evaluation("class_mean", [0, 0], shot=5)
        save(tmp_path / "results" / f"a{seed}", order, "Once more", *again, extra="repeats: a\n", seed=seed)
    save(tmp_path / "results" / "b", 3, "Second", evaluation("class_mean", [8, 6]))
    assert make_tables(tmp_path / "results", tmp_path / "results.md") == 2
    first, second = (tmp_path / "results.md").read_text().split("## Second")
    assert "| episodes | seeds: mean (sd) |" in first and "Seeds 3, 4, 9:" in first
    assert first.endswith(2 * "* `python tools/train.py -c x.yaml`; 2 cores\n" + "\n")
    # 70, 60 and 80 %
    assert "| 2 | 1 | novel | class_mean | 70.00 ± 13.86 |  | 2 | 70.00 (10.00) |" in first
    assert "| 2 | 1 | novel | finetune | 85.00 ± 6.93 | +15.00 ± 6.93 | 2 |  |" in first
    assert "Once more" not in first + second and "seeds" not in second.lower()


def test_contents_link_to_the_sections(tmp_path: Path) -> None:
    save(tmp_path / "results" / "b", 2, "'Second: `b`, 28 px'", evaluation("class_mean", [5, 5]))
    save(tmp_path / "results" / "a", 1, "First", evaluation("class_mean", [8, 6]), extra="title_zh: 第一：甲\n")
    make_tables(tmp_path / "results", tmp_path / "results.md")
    for name, first in (("results.md", "* [First](#first)"), ("results_zh.md", "* [第一：甲](#第一甲)")):
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert f")\n{first}\n* [Second: `b`, 28 px](#second-b-28-px)\n\n## " in page
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "## Contents\n\n* [How to read the tables](#how-to-read-the-tables)\n" in page


def test_what_evaluates_anothers_weights_names_the_section_of_its_command(tmp_path: Path) -> None:
    first, second = (evaluation("class_mean", correct) for correct in ([5, 5], [8, 6]))
    save(tmp_path / "results" / "a", 1, "First", first)
    save(tmp_path / "results" / "b", 2, "Second", second)
    about = tmp_path / "results" / "b" / "about.yaml"
    command = "tools/eval.py -c x.yaml --checkpoint output/x/checkpoints/best.safetensors"
    about.write_text(about.read_text().replace("tools/train.py -c x.yaml", command))
    make_tables(tmp_path / "results", tmp_path / "results.md")
    before, after = (tmp_path / "results.md").read_text().split("## Second")
    assert "after the command" not in before
    assert "3 minutes on 2 cores; after the command of [First](#first).\n" in after
    assert "3 分钟，2 cores；先运行 [First](#first) 一节的命令。\n" in (tmp_path / "results_zh.md").read_text("utf-8")


def test_tasks_stand_in_order(tmp_path: Path) -> None:
    asked = [(5, 5), (2, 5), (5, 1), (2, 1)]
    rows = [evaluation("class_mean", [8, 6], way=way, shot=shot) for way, shot in asked]
    save(tmp_path / "results" / "a", 1, "First", *rows)
    make_tables(tmp_path / "results", tmp_path / "results.md")
    found = [line for line in (tmp_path / "results.md").read_text().splitlines() if "| novel |" in line]
    assert [line.split(" | ")[:2] for line in found] == [["| 2", "1"], ["| 2", "5"], ["| 5", "1"], ["| 5", "5"]]


def test_a_row_of_its_own_shows_what_its_paper_reports(tmp_path: Path) -> None:
    rows = evaluation("class_mean", [8, 6]), evaluation("class_mean", [8, 6], shot=5)
    save(tmp_path / "results" / "a", 1, "First", *rows, extra='reported: {"2-way 5-shot": 91.5}\npage: maml\n')
    make_tables(tmp_path / "results", tmp_path / "results.md")
    page = (tmp_path / "results.md").read_text()
    assert "The method and its paper: [maml](algorithms/maml.md)." in page.splitlines()
    assert "方法与论文：[maml](algorithms/maml_zh.md)。" in (tmp_path / "results_zh.md").read_text(encoding="utf-8")
    assert "| episodes | reported |" in page
    assert "| 2 | 1 | novel | class_mean | 70.00 ± 13.86 |  | 2 |  |" in page
    assert "| 2 | 5 | novel | class_mean | 70.00 ± 13.86 |  | 2 | 91.5 (-21.5) |" in page


def test_a_figure_for_a_task_that_was_not_asked_is_named(tmp_path: Path) -> None:
    row = evaluation("class_mean", [8, 6]), evaluation("class_mean", [8, 6], way=9, support_set=True)
    for number, task in enumerate(("2-way 1 shot", "9-way 1-shot")):
        results = tmp_path / str(number)
        save(results / "a", 1, "First", *row, extra=f'reported: {{"{task}": 91.5}}\n')
        with pytest.raises(UserError, match=rf"a/about\.yaml: reported names '{task}', which the row was not asked"):
            make_tables(results, tmp_path / "results.md")


def test_minutes_are_no_fewer_than_evaluation_took(tmp_path: Path) -> None:
    rows = [evaluation("class_mean", [8, 6], shot=shot, seconds=120.0) for shot in (1, 5)]
    save(tmp_path / "fits" / "a", 1, "First", rows[0])  # of 3 minutes
    assert make_tables(tmp_path / "fits", tmp_path / "results.md") == 1
    save(tmp_path / "long" / "a", 1, "First", *rows)
    with pytest.raises(UserError, match=r"a/about\.yaml: minutes is 3, but evaluation alone took 4\.0; mend it"):
        make_tables(tmp_path / "long", tmp_path / "results.md")


def test_transductive_rows_have_a_table_of_their_own(tmp_path: Path) -> None:
    rows = evaluation("class_mean", [8, 6]), evaluation("entropy", [9, 8], transductive=True)
    save(tmp_path / "results" / "a", 1, "First", *rows)
    make_tables(tmp_path / "results", tmp_path / "results.md")
    inductive, transductive = (tmp_path / "results.md").read_text().split("\n**transductive**\n")
    assert "| class_mean |" in inductive and "| entropy |" not in inductive
    assert "| entropy | 85.00 ± 6.93 | +15.00 ± 6.93 |" in transductive


def test_the_fixed_support_set_shows_class_by_class_where_asked(tmp_path: Path) -> None:
    fixed = evaluation("class_mean", [6], support_set=True)
    save(tmp_path / "results" / "a", 1, "First", evaluation("class_mean", [8, 6]), fixed, extra="support_set: true\n")
    save(tmp_path / "results" / "b", 2, "Second", evaluation("class_mean", [8, 6]), fixed)
    make_tables(tmp_path / "results", tmp_path / "results.md")
    first, second = (tmp_path / "results.md").read_text().split("## Second")
    assert "3 / 5 right" in first and r"| 7 | sweet \| pea | 3 / 5 | 60 |" in first
    assert "right" not in second


def test_a_row_without_about_is_named(tmp_path: Path) -> None:
    save(tmp_path / "results" / "a", 1, "First", evaluation("class_mean", [8, 6]))
    (tmp_path / "results" / "a" / "about.yaml").unlink()
    with pytest.raises(UserError, match=r"about\.yaml is missing or malformed"):
        make_tables(tmp_path / "results", tmp_path / "results.md")


def test_a_key_that_stands_in_about_twice_is_named(tmp_path: Path) -> None:
    save(tmp_path / "results" / "a", 1, "First", evaluation("class_mean", [8, 6]))
    with (tmp_path / "results" / "a" / "about.yaml").open("a", encoding="utf-8") as about:
        about.write("\norder: 2\n")
    with pytest.raises(UserError, match=r"about\.yaml is missing or malformed \('order' stands there twice; leave one"):
        make_tables(tmp_path / "results", tmp_path / "results.md")


def test_no_results_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no result\.json below"):
        make_tables(tmp_path, tmp_path / "results.md")


def test_the_committed_page_is_what_the_results_give(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    make_tables(root / "results", tmp_path / "results.md")
    for name in ("results.md", "results_zh.md"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (root / "docs" / name).read_text(encoding="utf-8")


def test_the_chinese_page_stands_beside_the_english_one_and_they_link_to_each_other(tmp_path: Path) -> None:
    fixed = evaluation("class_mean", [6], support_set=True)
    rows = evaluation("class_mean", [8, 6]), evaluation("entropy", [9, 8], transductive=True, batch_norm="running")
    extra = "title_zh: 第一\nremark: Short.\nsupport_set: true\n"
    save(tmp_path / "results" / "a", 1, "First", *rows, fixed, extra=extra)
    make_tables(tmp_path / "results", tmp_path / "page.md")
    english, chinese = ((tmp_path / name).read_text(encoding="utf-8") for name in ("page.md", "page_zh.md"))
    assert english.startswith("# Results\n\n[中文](page_zh.md)\n")
    assert chinese.startswith("# 结果\n\n[English](page.md)\n")
    assert "## First" in english and "## 第一\n" in chinese and "\nShort.\n" in chinese
    assert "flowers102，划分 `fsl_ssl`；conv4，84 px；预训练权重：无（随机初始化）；" in chinese
    assert "cross_entropy，然后 cosine；种子 3；PaddlePaddle 3.3.1；每类 5 个查询；3 分钟，2 cores。" in chinese
    assert "| 2 | 1 | 新类 | class_mean | 70.00 ± 13.86 |  | 2 |" in chinese.split("\n**直推式**\n")[0]
    assert (
        "| entropy（批归一化：滑动平均的统计量） | 85.00 ± 6.93 | +15.00 ± 6.93 |" in chinese.split("\n**直推式**\n")[1]
    )
    assert "一个支持集，2-way 1-shot，class_mean：3 / 5 正确\n" in chinese


def test_a_row_is_the_runs_result_without_what_it_says_of_each_of_many_classes(tmp_path: Path) -> None:
    few = evaluation("few", [8, 6], confusion=[[3]])
    many = evaluation("many", [9, 8], confusion=[[1]])
    many["per_class"] = many["per_class"] * (MOST_CLASSES + 1)
    fixed = many | {"support_set": True}
    save(tmp_path / "run", 1, "Run", few, many, fixed)
    add_row(tmp_path / "run", tmp_path / "results" / "row")
    before = json.loads((tmp_path / "run" / "result.json").read_text())
    after = json.loads((tmp_path / "results" / "row" / "result.json").read_text())
    assert before["evaluations"][1].pop("confusion") == [[1]]
    assert len(before["evaluations"][1].pop("per_class")) > MOST_CLASSES
    assert after == before
    assert [path.name for path in (tmp_path / "results" / "row").iterdir()] == ["result.json"]
    with pytest.raises(UserError, match=r"result\.json"):
        add_row(tmp_path / "nowhere", tmp_path / "results" / "other")


def test_a_rows_validations_are_kept(tmp_path: Path) -> None:
    save(tmp_path / "run", 1, "Run", evaluation("few", [8, 6], confusion=[[3]]))
    rows = [
        {"step": 10, "epoch": 1, "split": "base", "name": "1_cosine/loss", "value": 0.5},
        {"step": 10, "epoch": 1, "split": "validation", "name": "1_cosine/accuracy", "value": 0.25},
        {"step": 20, "epoch": 2, "split": "validation", "name": "1_cosine/accuracy", "value": 0.75},
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    add_row(tmp_path / "run", tmp_path / "row")
    assert json.loads((tmp_path / "row" / "validation.json").read_text()) == [
        {"epoch": epoch, "name": "1_cosine/accuracy", "value": value} for epoch, value in ((1, 0.25), (2, 0.75))
    ]
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[1])[:-9])
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged"):
        add_row(tmp_path / "run", tmp_path / "row")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    add_row(tmp_path / "run", tmp_path / "row")
    assert not (tmp_path / "row" / "validation.json").exists()


def test_sections_say_how_embeddings_were_finished() -> None:
    result = {"dataset": "d", "split": "s", "backbone": "b", "image_size": 8, "pretrained": None}
    plain = wording.subject(result, ENGLISH)
    untouched = {"mirror": False, "power": 1.0, "center": "none", "whitening": None}
    assert wording.subject({**result, "embedding": untouched}, ENGLISH) == plain
    finish = {"mirror": True, "power": 0.5, "center": "base", "whitening": 2.0}
    assert wording.subject({**result, "embedding": finish}, ENGLISH) == (
        plain + "; embeddings: with mirror images, to the power of 0.5, centred by base classes, whitened by base "
        "classes (shrinkage 2)"
    )
    assert wording.subject({**result, "embedding": {**finish, "power": 1.0}}, CHINESE).endswith(
        "；嵌入：含镜像、按基类中心化、按基类白化（收缩 2）"
    )
