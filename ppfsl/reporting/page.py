"""Pages of one file that need nothing else: page.html, which others fill."""

import functools
from typing import TYPE_CHECKING

from ppfsl.data.names import printable

if TYPE_CHECKING:
    from jinja2 import Template


@functools.cache
def template(package: str, name: str) -> "Template":
    """A template that lies in a package; it may say `{% extends "page.html" %}`.

    What it is given is escaped and made printable, but for markup.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def cleaned(value: object) -> object:
        return value if isinstance(value, Markup) else printable(value)

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(where, "") for where in (package, "ppfsl.reporting")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
