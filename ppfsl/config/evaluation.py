"""`evaluation`: episodes and the fixed support set."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ppfsl.config.fields import Count, Natural, Strict, UserPath


class SupportSetConfig(Strict):
    """The one fixed support set of a run and its query list; null: the same as in `evaluation`."""

    file: UserPath | None = None
    """A support set that `tools/build_support_set.py` wrote; null: draw one by the keys below."""
    way: Annotated[int, Field(strict=True, ge=2)] | None = None
    """Null: the first of `evaluation.way`."""
    shot: Count | None = None
    """Null: the greatest of `evaluation.shot`."""
    query: Count | None = None
    classes: Annotated[tuple[int, ...], Field(min_length=2)] | None = None
    """Labels; null: a choice of `way` classes by the seed."""
    seed: Natural = 0

    @model_validator(mode="after")
    def _consistent(self) -> "SupportSetConfig":
        if self.file is not None and (self.way, self.shot, self.query, self.classes, self.seed) != (*[None] * 4, 0):
            raise ValueError("file names a support set that is drawn already; leave out the other keys")
        return self


class EvaluationConfig(Strict):
    """Episodes on the classes of one part of the split, which training never saw unless the split says otherwise."""

    way: Annotated[tuple[Annotated[int, Field(strict=True, ge=2)], ...], Field(min_length=1)] = (5,)
    """One or several; every one is evaluated with every number of shots."""
    shot: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 5)
    query: Count = 15
    """Query images per class in an episode."""
    episodes: Count = 600
    seed: Natural = 0
    part: Literal["novel", "validation"] = "novel"
    support_set: SupportSetConfig = SupportSetConfig()

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        alone = {key: [value[key]] for key in ("way", "shot") if isinstance(value.get(key), int)}
        return {**value, **alone}

    @model_validator(mode="after")
    def _different_tasks(self) -> "EvaluationConfig":
        for key in ("way", "shot"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"{key} lists a number twice")
        return self

    @property
    def tasks(self) -> tuple[tuple[int, int], ...]:
        """(way, shot) of everything that is evaluated, in order."""
        return tuple((way, shot) for way in self.way for shot in self.shot)


class VerificationConfig(Strict):
    """Do two pictures show the same class? Pairs of images, half of them of one class."""

    pairs: Annotated[int, Field(strict=True, ge=2)] = 4000
    """Of evaluated classes, and as many of validation classes, which choose the threshold."""
    seed: Natural = 0
