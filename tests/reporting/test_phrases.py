"""docs/results.md and docs/results_zh.md say the same in two languages."""

import dataclasses
import re
from pathlib import Path
from string import Formatter

import pytest

from ppfsl.reporting.phrases import CHINESE, ENGLISH

DOCS = Path(__file__).parents[2] / "docs"
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
LINK = re.compile(r"\]\([^)]*\)")
CODE = re.compile(r"^    .*$|`[^`]*`|\]\([^)]*\)", re.MULTILINE)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def sections(name: str) -> list[list[str]]:
    """The paragraphs and tables of each section; the page's head is the first one."""
    return [section.strip().split("\n\n") for section in page(name).split("\n## ")]


def numbers(block: str) -> list[str]:
    """In their order in tables and commands; sorted in sentences, where each language has an order of its own."""
    found = NUMBER.findall(LINK.sub("]", block))
    return found if block.startswith(("|", "    ")) else sorted(found)


def braces(text: object) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(str(text)) if name}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ENGLISH) if field.name != "values"])
def test_both_languages_say_the_same_things(name: str) -> None:
    english, chinese = getattr(ENGLISH, name), getattr(CHINESE, name)
    if isinstance(english, tuple):
        assert len(english) == len(chinese)
    else:
        assert braces(english) == braces(chinese)


def test_values_are_called_as_they_stand_where_nothing_else_is_said() -> None:
    assert ENGLISH.value("novel") == "novel"
    assert CHINESE.value("novel") == "新类"
    assert CHINESE.value("another") == "another"


def test_the_two_pages_have_the_same_numbers() -> None:
    english, chinese = sections("results.md"), sections("results_zh.md")
    assert len(english) == len(chinese)
    for one, other in zip(english, chinese, strict=True):
        assert [numbers(block) for block in other] == [numbers(block) for block in one], other[0]


def test_the_two_pages_have_the_same_commands() -> None:
    english, chinese = (re.findall("python tools/[^`\n]*", page(name)) for name in ("results.md", "results_zh.md"))
    assert english == chinese


def test_chinese_sentences_have_full_width_punctuation() -> None:
    text = CODE.sub("", page("results_zh.md"))
    assert re.findall(r".{,9}[\u4e00-\u9fff][,;:()!?].{,9}|.{,9}[,;:()!?][\u4e00-\u9fff].{,9}", text) == []
