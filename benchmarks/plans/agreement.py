"""What variants must agree in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.compare import DisagreementError

Check = Callable[[Mapping[str, Any]], None]


def close(tolerance: float) -> Check:
    """All variants' numbers are equal but for `tolerance`, relative to the largest of them."""

    def check(outputs: Mapping[str, Any]) -> None:
        (first, expected), *others = ((name, np.asarray(value)) for name, value in outputs.items() if value is not None)
        for name, value in others:
            if value.shape != expected.shape:
                raise DisagreementError(f"{name} gives {value.shape} numbers, {first} {expected.shape}")
            difference = float(np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-12))
            if not difference <= tolerance:
                raise DisagreementError(f"{name} differs from {first} by {difference:.1e}, more than {tolerance:.0e}")

    return check


def close_within(groups: Sequence[Sequence[str]], tolerance: float) -> Check:
    """`close`, among the variants of each group alone."""

    def check(outputs: Mapping[str, Any]) -> None:
        for group in groups:
            present = {name: outputs[name] for name in group if name in outputs}
            if present:
                close(tolerance)(present)

    return check


def same_answers(queries: int, groups: tuple[tuple[str, ...], ...], allowed: float) -> Check:
    """Variants of a group have the same number of right queries in every episode, or nearly.

    Args:
        queries: of each episode.
        groups: names of variants that answer alike; those that were not run are passed over.
        allowed: the share of queries by which they may differ, for what rounding decides. Where some variants ran
            fewer episodes than others, those that all ran count.
    """

    def check(outputs: Mapping[str, Any]) -> None:
        for group in groups:
            present = {name: np.asarray(outputs[name]) for name in group if outputs.get(name) is not None}
            count = min((len(right) for right in present.values()), default=0)
            first, *others = present or [""]
            for name in others:
                difference = np.abs(present[name][:count] - present[first][:count]).sum() / (count * queries)
                if not difference <= allowed:
                    raise DisagreementError(f"{name} answers {difference:.2%} of the queries otherwise than {first}")

    return check


def same_photographs(outputs: Mapping[str, Any]) -> None:
    """Batches of one shape, from as many images, with about the same mean and deviation of the pixels."""
    (first, expected), *others = outputs.items()
    for name, found in others:
        if (found["shape"], found["images"]) != (expected["shape"], expected["images"]):
            raise DisagreementError(
                f"{name} makes batches {found['shape']} of {found['images']} images, not as {first}"
            )
        if not np.allclose(found["mean_and_deviation"], expected["mean_and_deviation"], atol=0.05):
            raise DisagreementError(f"the pixels of {name} have another mean or deviation than those of {first}")
