"""Links in the documentation lead somewhere, pages have their twins, and the site lists them all."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\](?:\([^)]*\))?)*\]\(([^()\s]+)\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def links(page: Path) -> list[str]:
    text = re.sub(r"^ *```.*?^ *```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return [link for link in LINK.findall(text) if not re.match(r"https?:|mailto:", link)]


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives to headings."""
    text = re.sub(r"^ *```.*?^ *```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (unique := slug if number == 0 else f"{slug}-{number}") in found:
            number += 1
        found.add(unique)
    return found


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        inside = target == ROOT or ROOT in target.parents
        alive = inside and target.exists()
        if alive and anchor and target.suffix == ".md":
            alive = anchor in anchors(target)
        if not alive:
            dead.append(link)
    assert not dead, f"{name(page)}: {dead}"


def twin(page: Path) -> Path:
    stem = page.stem.removesuffix("_zh") if page.stem.endswith("_zh") else f"{page.stem}_zh"
    return page.with_name(f"{stem}.md")


ONE_LANGUAGE = {"CHANGELOG.md", "benchmarks/results.md"}
TWO_LANGUAGES = [page for page in PAGES if name(page) not in ONE_LANGUAGE and "reference" not in page.parts]


@pytest.mark.parametrize("page", TWO_LANGUAGES, ids=name)
def test_pages_stand_in_both_languages_and_link_to_each_other(page: Path) -> None:
    other = twin(page)
    assert other.exists(), f"{name(page)} lacks {name(other)}"
    assert other.name in text_of(page).split("\n## ")[0], f"{name(page)} does not link to {other.name}"


def listed(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in listed(entry)]


def test_site_lists_every_page_once() -> None:
    text = re.sub(r"!!python\S*", "", text_of(ROOT / "mkdocs.yml"))
    found = listed(yaml.safe_load(text)["nav"])
    assert len(found) == len(set(found))
    assert set(found) == {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}


def test_reference_names_modules_that_are_there() -> None:
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        for module in re.findall(r"^::: (\S+)", text_of(page), re.MULTILINE):
            path = ROOT / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists(), f"{name(page)} names {module}"


def test_reference_leaves_no_room_out() -> None:
    """Every public module of the package is on a page, or is plumbing that no caller needs."""
    plumbing = {"cli", "errors", "exchange", "files", "interrupts", "links"}
    plumbing |= {"notation", "onednn", "progress", "randomness", "version"}
    rooms = {
        path.stem for path in (ROOT / "ppfsl").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    named = set()
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        named |= {module.split(".")[1] for module in re.findall(r"^::: (\S+)", text_of(page), re.MULTILINE)}
    assert rooms - named - {"__init__"} == plumbing
