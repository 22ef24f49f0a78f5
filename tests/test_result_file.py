"""A result.json as it is read: whole, or refused with the key at fault and the remedy."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ppfsl.errors import UserError
from ppfsl.files import write_json
from ppfsl.result_file import read_result

EVALUATION = {
    **{"part": "novel", "way": 5, "shot": 1, "query": 15, "episodes": 2, "seed": 0, "support_set": False},
    **{"adaptation": "class_mean", "transductive": False, "accuracy": 0.5, "ci95": 0.0, "episode_correct": [3, 4]},
}
RESULT = {"dataset": "flowers102", "split": "metadataset", "evaluations": [EVALUATION], "further": [1]}
REMEDY = "remove it and run its configuration again, which repeats the evaluations alone"


def test_what_is_whole_is_read_with_all_its_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "result.json", RESULT)
    assert read_result(tmp_path / "result.json") == RESULT


@pytest.mark.parametrize("text", ["[]", "3", "null", '"words"'])
def test_other_values_are_no_result(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_result(path)
    assert str(caught.value) == f"{path} cannot be used: it is no result of a run; {REMEDY}"


@pytest.mark.parametrize("text", ["", '{"dataset": '])
def test_what_is_cut_off_has_the_remedy_too(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_result(path)
    assert str(caught.value).startswith(f"{path} cannot be used: ")
    assert str(caught.value).endswith(f"; {REMEDY}")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda r: r.pop("evaluations"), "evaluations: field required"),
        (lambda r: r.update(evaluations={}), "evaluations: input should be a valid list"),
        (lambda r: r.update(evaluations=[]), "evaluations: list should have at least 1 item after validation, not 0"),
        (lambda r: r["evaluations"].append(3), "evaluations.1: input should be a valid dictionary or instance of _Eva"),
        (lambda r: r["evaluations"][0].pop("accuracy"), "evaluations.0.accuracy: field required"),
        (lambda r: r["evaluations"][0].update(accuracy="x"), "evaluations.0.accuracy: input should be a valid number"),
        (lambda r: r["evaluations"][0]["episode_correct"].append(1), "evaluations.0 has 3 of 2 episodes"),
        (lambda r: r.update(verification=3), "verification: input should be a valid dictionary"),
        (lambda r: r.update(checkpoint=3), "checkpoint: input should be a valid dictionary"),
    ],
)
def test_what_is_at_fault_is_named_with_the_remedy(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    path, result = tmp_path / "result.json", copy.deepcopy(RESULT)
    spoil(result)
    write_json(path, result)
    with pytest.raises(UserError) as caught:
        read_result(path)
    assert str(caught.value).startswith(f"{path} cannot be used: {reason}")
    assert str(caught.value).endswith(f"; {REMEDY}")
