"""The pages of the algorithms: complete in both languages, and true to the configuration and to the results."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ppfsl.config import Config
from ppfsl.config_file import load_config, parse_config

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
ALGORITHMS = (
    *("class_mean", "soft_kmeans", "finetune", "baseline", "siamese", "matching", "prototypical", "relation"),
    *("meta_baseline", "maml", "anil", "reptile", "meta_sgd", "lstm_meta_learner", "memory_augmented"),
    "learned_optimizer",
)
PAGES = [f"{name}{language}" for name in ALGORITHMS for language in ("", "_zh")]
HEADINGS = {
    "": ["The idea", "The formula", "The configuration", "The result", "The paper, and what differs"],
    "_zh": ["思路", "公式", "配置", "结果", "论文与差异"],
}
FIGURE = re.compile(r"\d+\.\d+ (?:± \d+\.\d+|\(\d+\.\d+\))")
OVERVIEW = {"": DOCS / "methods.md", "_zh": DOCS / "methods_zh.md"}


def language(page: str) -> str:
    return "_zh" if page.endswith("_zh") else ""


def text(page: str) -> str:
    return (DOCS / "algorithms" / f"{page}.md").read_text(encoding="utf-8")


def fragments(page: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


@functools.cache
def loaded(name: str) -> Config:
    return load_config(ROOT / name)


def test_every_page_is_there_and_no_other() -> None:
    assert sorted(path.stem for path in (DOCS / "algorithms").iterdir()) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_links_to_the_overview_which_links_to_it(page: str) -> None:
    title, _, links = text(page).splitlines()[:3]
    assert title.startswith("# ")
    assert f"](../{OVERVIEW[language(page)].name})" in links
    assert f"](algorithms/{page}.md)" in OVERVIEW[language(page)].read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_the_five_parts(page: str) -> None:
    assert re.findall(r"^## (.*)$", text(page), re.MULTILINE) == HEADINGS[language(page)]


@pytest.mark.parametrize("page", PAGES)
def test_configurations_and_code_that_are_named_exist(page: str) -> None:
    configurations = set(re.findall(r"configs/[\w/]+\.yaml", text(page)))
    assert configurations
    for name in configurations:
        loaded(name)
    for name in re.findall(r"`((?:ppfsl|examples)/[\w/]+\.py)`", text(page)):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", PAGES)
def test_fragments_are_configurations_with_the_defaults_that_they_say(page: str) -> None:
    assert fragments(page)
    for fragment in fragments(page):
        config = parse_config(yaml.safe_load(fragment), page)
        node = yaml.compose(fragment, Loader=yaml.SafeLoader)
        assert list(departures(node, config, None, fragment.splitlines())) == []


def departures(node: yaml.MappingNode, value: BaseModel, default: Any, lines: list[str]) -> Iterator[str]:
    """Keys of a fragment whose value is neither their default nor beside a comment that tells the default."""
    for key_node, value_node in node.value:
        key = key_node.value
        known = getattr(default, key, type(value).model_fields[key].default)
        now = getattr(value, key)
        if isinstance(value_node, yaml.MappingNode):
            yield from departures(value_node, now, known, lines)
        elif key in ("pretrain", "adaptations"):
            for item_node, item in zip(value_node.value, now, strict=True):
                yield from departures(item_node, item, None, lines)
        elif known is not PydanticUndefined:
            told = re.search(r"(?:default|默认): ([^\s,;，；]+)", lines[key_node.start_mark.line])
            shown = None if value_node.value == "null" else now
            if (yaml.safe_load(told[1]) if told else shown) != known:
                yield f"{key}: {shown}, default {known}"


@pytest.mark.parametrize("page", PAGES)
def test_figures_are_those_of_the_results(page: str) -> None:
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    own = [line for line in text(page).splitlines() if line.startswith("|") and not re.match(r"\| (paper|论文)", line)]
    for figure in re.findall(r"\d+\.\d+ ± \d+\.\d+", "\n".join(own)):
        assert f"| {figure} |" in results, figure


@pytest.mark.parametrize("page", PAGES)
def test_figures_in_sentences_are_those_of_the_results_too(page: str) -> None:
    """But for those of papers, and those of an example, whose command stands beside them."""
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    for paragraph in sentences(page):
        own = re.sub(r"(paper: |论文：)[\d.± ]+(and |和 )[\d.± ]+", "", paragraph)
        for figure in FIGURE.findall(own if "examples/" not in own else ""):
            assert figure in results, figure


def sentences(page: str) -> list[str]:
    """Paragraphs that are no tables, lines joined."""
    paragraphs = (paragraph for paragraph in text(page).split("\n\n") if not paragraph.startswith("|"))
    return [" ".join(paragraph.split()) for paragraph in paragraphs]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_both_languages_say_the_same(name: str) -> None:
    assert facts(name) == facts(f"{name}_zh")


def facts(page: str) -> dict[str, list[str]]:
    """What has no language."""
    keys = [line.partition("#")[0].rstrip() for fragment in fragments(page) for line in fragment.splitlines()]
    commands = re.findall(r"^python [^#\n]*|^    -o .*", text(page), re.MULTILINE)
    return {
        "formulas": re.findall(r"^\$\$\n(.*?)^\$\$", text(page), re.MULTILINE | re.DOTALL),
        "keys": [line for line in keys if line],
        "commands": [command.strip() for command in commands],
        "sentences": sorted(FIGURE.findall("\n".join(sentences(page)))),
        "figures": re.findall(r"\d+\.\d+(?: ± \d+\.\d+)?", "".join(re.findall(r"^\|.*", text(page), re.MULTILINE))),
    }
