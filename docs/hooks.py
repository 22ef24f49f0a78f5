"""What the site needs beyond mkdocs: links that leave the documentation, formulas without a script, unbroken Chinese.

Pages link to files of the repository (`../configs/quickstart.yaml`), which a reader of the repository can open and
the site does not have: there such a link becomes its text. Formulas become MathML, which browsers draw themselves. A
line's end between Chinese characters is no space.
"""

import html
import posixpath
import re
from typing import Any

from latex2mathml.converter import convert

_CJK = "[\u3001-\u9fff\uff00-\uffef]"
_BREAK = re.compile(f"(?<={_CJK})\\n *(?={_CJK})")
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"(^ *```.*?^ *```)", re.DOTALL | re.MULTILINE)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to files outside the documentation into their text; join lines of Chinese."""
    folder = posixpath.dirname(page.file.src_uri)

    def inside(link: re.Match[str]) -> str:
        target = link[2]
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        left = posixpath.normpath(posixpath.join(folder, target)).startswith("..")
        return link[1] if left else link[0]

    parts = _FENCE.split(markdown)

    def prose(part: str) -> str:
        return _BREAK.sub("", _LINK.sub(inside, part))

    return "".join(part if number % 2 else prose(part) for number, part in enumerate(parts))


def on_page_content(content: str, **_: Any) -> str:
    """Turn TeX into MathML."""

    def drawn(formula: re.Match[str]) -> str:
        return convert(html.unescape(formula[3].strip()), display="block" if formula[1] == "div" else "inline")

    return _FORMULA.sub(drawn, content)
