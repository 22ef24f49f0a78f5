"""What rows and comparisons say in two languages; how wrong files are named is tested with the pages."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ppfsl.reporting.phrases import CHINESE, ENGLISH
from ppfsl.reporting.rows import About, Comparison

RESULTS = Path(__file__).parents[2] / "results"
FILES = sorted(RESULTS.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(RESULTS).as_posix())
def test_what_is_remarked_is_remarked_in_both_languages(path: Path) -> None:
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert ("remark" in said) == ("remark_zh" in said)
    assert re.search(r"[\u4e00-\u9fff]", said.get("remark_zh", "无"))


def test_each_language_says_its_own_and_english_stands_in_for_chinese() -> None:
    comparison = Comparison(order=1, title="Flowers", title_zh="花", remark="Few.", reference="first")
    assert comparison.translated(ENGLISH.suffix) == comparison
    assert comparison.translated(CHINESE.suffix) == comparison.model_copy(update={"title": "花"})
    about = About(order=1, title="MAML", command="x", machine="2 cores", machine_zh="2 个核", minutes=1)
    chinese = about.translated(CHINESE.suffix)
    assert (chinese.title, chinese.machine, chinese.command) == ("MAML", "2 个核", "x")


@pytest.mark.parametrize("figure", ["about 90", "-3", "90%", ""])
def test_a_papers_figure_begins_with_a_number(figure: str) -> None:
    fine = {"order": 1, "title": "MAML", "command": "x", "machine": "m", "minutes": 1}
    assert About(**fine, reported={"5-way 1-shot": "90.5 ± 0.5"}).reported["5-way 1-shot"] == "90.5 ± 0.5"
    with pytest.raises(ValidationError):
        About(**fine, reported={"5-way 1-shot": figure})
