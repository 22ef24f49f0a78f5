"""What every reader of a result.json may rely on, checked where one is read."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ppfsl.errors import UserError
from ppfsl.files import read_json

_REMEDY = "remove it and run its configuration again, which repeats the evaluations alone"


def read_result(path: Path) -> dict[str, Any]:
    """What a result.json holds.

    Raises:
        UserError: when it is missing, or is no result of a run, naming the first key at fault.
    """
    try:
        return dict(read_json(path, _checked))
    except UserError as error:
        if not path.is_file():  # nothing to remove
            raise
        raise UserError(f"{error}; {_REMEDY}") from None


class _Evaluation(BaseModel):
    model_config = ConfigDict(strict=True)

    part: str
    way: int = Field(ge=2)
    shot: int = Field(ge=1)
    query: int = Field(ge=1)
    episodes: int = Field(ge=1)
    seed: int
    support_set: bool
    adaptation: str
    transductive: bool
    accuracy: float
    ci95: float
    episode_correct: list[int]


class _Result(BaseModel):
    model_config = ConfigDict(strict=True)

    dataset: str
    split: str | None
    evaluations: list[_Evaluation] = Field(min_length=1)
    verification: dict[str, Any] | None = None
    checkpoint: dict[str, str] | None = None


def _checked(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is no result of a run")
    try:
        _Result.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key, what = ".".join(map(str, first["loc"])), first["msg"][0].lower() + first["msg"][1:]
        raise ValueError(f"{key}: {what}") from None
    for number, evaluation in enumerate(value["evaluations"]):
        told, posed = len(evaluation["episode_correct"]), evaluation["episodes"]
        if told != posed:
            raise ValueError(f"evaluations.{number} has {told} of {posed} episodes")
    return value
