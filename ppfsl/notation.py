"""JSON and YAML as people mean them: no key twice, of which the usual readers keep the last one without a word."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import yaml


class DoubledKeyError(yaml.MarkedYAMLError):
    """A YAML mapping gives a key twice; `problem` says which, `problem_mark` where."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: when it is not JSON, an object gives a key twice, or it is nested too deeply to be read.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_doubles)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """The value of a YAML text that holds plain values alone; None: it is empty.

    Raises:
        DoubledKeyError: when a mapping gives a key twice.
        yaml.YAMLError: when it is not YAML, or nested too deeply to be read.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506, which is a SafeLoader
    except ValueError as error:  # dates that do not exist
        raise yaml.YAMLError(str(error)) from None
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As PyYAML's; keys are compared here, before merge keys (<<) bring in those that a mapping overrides."""
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        name = _doubled((key.tag, key.value) for key in keys)
        if name is not None:
            second = [key for key in keys if (key.tag, key.value) == name][1]
            raise DoubledKeyError(problem=_complaint(second.value), problem_mark=second.start_mark)
        return node


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    name = _doubled(key for key, _ in pairs)
    if name is not None:
        raise ValueError(_complaint(name))
    return dict(pairs)


def _doubled(keys: Iterable[Any]) -> Any:
    """The first key that is there twice; None: there is none."""
    return next((key for key, times in Counter(keys).items() if times > 1), None)


def _complaint(key: str) -> str:
    return f"{key!r} stands there twice; leave one out"
