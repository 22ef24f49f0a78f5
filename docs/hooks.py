"""What the site needs beyond mkdocs: links that leave the documentation, and formulas without a script.

Pages link to files of the repository (`../configs/quickstart.yaml`), which a reader of the repository can open and
the site does not have: there such a link becomes its text. Formulas become MathML, which browsers draw themselves.
"""

import html
import posixpath
import re
from typing import Any

from latex2mathml.converter import convert

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files outside the documentation into their text."""
    folder = posixpath.dirname(page.file.src_uri)

    def inside(link: re.Match[str]) -> str:
        target = link[2]
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        left = posixpath.normpath(posixpath.join(folder, target)).startswith("..")
        return link[1] if left else link[0]

    parts = _FENCE.split(markdown)
    return "".join(part if number % 2 else _LINK.sub(inside, part) for number, part in enumerate(parts))


def on_page_content(content: str, **_: Any) -> str:
    """Turn TeX into MathML."""

    def drawn(formula: re.Match[str]) -> str:
        return convert(html.unescape(formula[3].strip()), display="block" if formula[1] == "div" else "inline")

    return _FORMULA.sub(drawn, content)
