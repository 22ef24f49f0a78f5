"""Kinds of values that keys take, and what all groups of keys share."""

import os
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Count = Annotated[int, Field(strict=True, ge=1)]
Size = Annotated[int, Field(strict=True, ge=1, le=65536)]
"""Of a layer; Paddle counts in 32 bits, and memory ends sooner."""
Natural = Annotated[int, Field(strict=True, ge=0)]


def _no_switch(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {value}")
    return value


def whole_number(value: object) -> object:
    """The value, unless it is a switch or has a decimal point; Python takes True and 1.0 for 1."""
    if isinstance(value, bool | float):
        raise ValueError(f"must be a whole number, not {value}")
    return value


Number = Annotated[float, BeforeValidator(_no_switch)]
Positive = Annotated[Number, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[Number, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Switch = Annotated[bool, Field(strict=True)]


def known_device(value: str) -> str:
    """The name of a device, as it was; whether there is such a device is found out later.

    Raises:
        ValueError: when it is none.
    """
    if not re.fullmatch(r"auto|cpu|gpu(:[0-9]+)?", value):
        raise ValueError(f"must be auto, cpu, gpu, or gpu:1 and the like, not {value!r}")
    return value


Device = Annotated[str, AfterValidator(known_device)]


def _expanded(value: str) -> str:
    """A path with the home directory in the place of ~ or ~name; others, and names of what is shipped, stay."""
    path = os.path.expanduser(value)  # noqa: PTH111, since Path's own would rewrite other paths, too
    if path.startswith("~"):
        home = path.partition("/")[0]
        raise ValueError(f"there is no home directory {home}; write ./{path} where a name begins with ~")
    if "\0" in path:
        raise ValueError("must not hold a null character")
    return path


UserPath = Annotated[str, AfterValidator(_expanded)]
"""A file or folder on the user's disk, or the name of something shipped."""


class Strict(BaseModel):
    """A group of keys: immutable, and every key of it is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    def _refuse_unused(self, key: str, owner: str, used: bool) -> None:
        """Raise when a key that nothing reads was given another value than its default."""
        if not used and getattr(self, key) != type(self).model_fields[key].default:
            raise ValueError(f"{key} belongs to {owner}; leave it out")
