"""What a run asks: here, which support set."""

from pathlib import Path
from typing import Any

import pytest

from ppfsl.config_file import parse_config
from ppfsl.data.support_set import save_support_set
from ppfsl.errors import UserError
from ppfsl.questions import run_support_set
from tests.thirds import data


def config(**support_set: Any) -> Any:
    return parse_config({"evaluation": episodes(**support_set)}, "test")


def episodes(**support_set: Any) -> dict[str, Any]:
    return {"way": 3, "shot": [1, 2], "query": 3, "support_set": support_set}


def test_way_shot_and_query_default_to_those_of_the_episodes() -> None:
    drawn = run_support_set(config(), data())
    assert (drawn.way, drawn.shot, len(drawn.query)) == (3, 2, 9)
    assert [label for label, _ in drawn.classes] == [4, 5, 6]


def test_named_classes_set_the_way() -> None:
    drawn = run_support_set(config(classes=[6, 4], shot=1, query=5), data())
    assert (drawn.way, drawn.shot, len(drawn.query)) == (2, 1, 10)
    assert [label for label, _ in drawn.classes] == [6, 4]


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    drawn = run_support_set(config(seed=7, shot=1), data())
    save_support_set(drawn, tmp_path / "set.json")
    assert run_support_set(config(file=str(tmp_path / "set.json")), data()) == drawn
    assert run_support_set(config(), data()) != drawn


def test_a_file_of_other_classes_is_refused(tmp_path: Path) -> None:
    save_support_set(run_support_set(config(), data((7, 8, 9))), tmp_path / "set.json")
    with pytest.raises(UserError, match=r"set\.json: 7/\d+\.png is not among the novel images of split thirds"):
        run_support_set(config(file=str(tmp_path / "set.json")), data((4, 5, 6)))


def test_a_file_of_another_way_than_a_method_serves_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    save_support_set(run_support_set(config(way=2), data()), path)
    maml = {"pretrain": [{"objective": {"name": "maml", "way": 3}}], "validation": {"way": 3}}
    tree = {**maml, "adaptations": [{"name": "maml"}], "evaluation": episodes(file=str(path))}
    with pytest.raises(UserError) as caught:
        run_support_set(parse_config(tree, "test"), data())
    sentence = f"the way of {path} is 2, but maml is trained 3-way and serves no other; make them equal"
    assert str(caught.value) == sentence
    others = parse_config({**tree, "adaptations": [{"name": "class_mean"}]}, "test")
    assert run_support_set(others, data()).way == 2


def test_a_file_and_a_way_contradict_each_other() -> None:
    with pytest.raises(UserError, match="leave out the other keys"):
        config(file="set.json", way=3)
