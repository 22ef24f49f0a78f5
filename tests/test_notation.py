"""JSON and YAML in which a key stands twice, or that no reader's stack holds."""

import pytest
import yaml

from ppfsl.notation import DoubledKeyError, parse_json, parse_yaml


def test_plain_values_pass() -> None:
    value = {"a": [1, 2.5, None, True, "牡丹"], "b": {"a": {}}}
    assert parse_json('{"a": [1, 2.5, null, true, "牡丹"], "b": {"a": {}}}') == value
    assert parse_yaml("a: [1, 2.5, null, true, 牡丹]\nb: {a: {}}") == value
    assert parse_yaml("# nothing") is None


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 1}', '[{"b": {"a": 1, "a": 2}}]'])
def test_doubled_keys_of_objects_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'a' stands there twice; leave one out$"):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "line"), [("a: 1\nb: 2\na: 1", 3), ("b:\n  - {a: 1, 'a': 2}", 2), ("a: {x: 1}\n? a\n: 2", 2)]
)
def test_doubled_keys_of_mappings_are_named_with_their_line(text: str, line: int) -> None:
    with pytest.raises(DoubledKeyError) as caught:
        parse_yaml(text)
    assert caught.value.problem == "'a' stands there twice; leave one out"
    assert caught.value.problem_mark.line + 1 == line


def test_a_key_that_overrides_a_merged_one_stands_there_once() -> None:
    text = "x: {y: &y {<<: &z {a: 1, b: 2}, a: 3}}\nu: {<<: *y, b: 4}\nv: {<<: [*y, *z]}"
    tree = parse_yaml(text)
    assert (tree["x"]["y"], tree["u"], tree["v"]) == ({"a": 3, "b": 2}, {"a": 3, "b": 4}, {"a": 3, "b": 2})


def test_different_keys_may_look_alike() -> None:
    assert parse_yaml("1: a\n'1': b") == {1: "a", "1": "b"}


@pytest.mark.parametrize("text", ["[" * 3000, "{a: " * 3000, "day: 2024-02-31", "a: !!python/name:os.getcwd"])
def test_unreadable_yaml_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)


def test_deeply_nested_json_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
