"""The painter: what a kind says is what the picture shows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ppfsl.data import blossoms
from ppfsl.data.blossoms import CENTRES, OUTLINES, PATTERNS, Kind, _individual, paint, paint_blossom

YELLOW, WHITE, RED = (0.15, 0.9, 0.95), (0.0, 0.0, 1.0), (0.0, 0.9, 0.9)
KIND = Kind("test", 6, 1, "lance", WHITE, "plain", RED, "button", 0.2, YELLOW)


class Still:
    """A generator without chance: always the middle, never a tilt."""

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        return (low + high) / 2 if size is None else np.full(size, (low + high) / 2)

    def triangular(self, low: float, mode: float, high: float) -> float:
        return low


def flat(kind: Kind, side: int = 200) -> np.ndarray:
    """The blossom alone, seen from above on black: [3, side, side], radius 0.4."""
    canvas = np.zeros((3, side, side), dtype=np.float32)
    paint_blossom(canvas, kind, Still(), 0.5, 0.5, 0.4)  # type: ignore[arg-type]
    return canvas


def around(canvas: np.ndarray, distance: float) -> np.ndarray:
    """The colours on a circle of that many radii about the middle: [3, 720]."""
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    side = canvas.shape[-1]
    columns, rows = ((0.5 + 0.4 * distance * part(angles)) * side for part in (np.cos, np.sin))
    return canvas[:, rows.astype(int), columns.astype(int)]


def runs(on: np.ndarray) -> int:
    return int((on & ~np.roll(on, 1)).sum())


@pytest.mark.parametrize(
    ("shape", "petals"),
    [("strap", 8), ("strap", 13), ("strap", 17), ("lance", 4), ("lance", 5), ("lance", 8), ("spoon", 5), ("spoon", 10)],
)
def test_the_petals_can_be_counted(shape: str, petals: int) -> None:
    circle = around(flat(replace(KIND, shape=shape, petals=petals)), 0.88)
    assert runs(circle[1] > 0.4) == petals


def test_a_notch_parts_every_tip_in_two() -> None:
    circle = around(flat(replace(KIND, shape="heart", petals=4)), 0.86)
    assert runs(circle[1] > 0.4) == 8


def test_the_inner_ring_lies_in_the_gaps_of_the_outer() -> None:
    outer = around(flat(replace(KIND, petals=5)), 0.62)[1] > 0.4
    both = around(flat(replace(KIND, petals=5, rings=2)), 0.62)[1] > 0.4
    assert runs(outer) == 5
    assert runs(both) == 10
    assert both[outer].mean() > 0.95


def test_the_inner_petals_are_as_whole_as_the_outer() -> None:
    """Half a petal further round and smaller, an inner ring of broad petals looks like the outer."""
    outer = around(flat(replace(KIND, petals=8, shape="round"), 600), 0.65)
    inner = around(flat(replace(KIND, petals=8, shape="round", rings=2), 600), 0.65 * 0.7)
    assert np.abs(np.roll(outer, 45, axis=1) - inner).mean() < 0.04


def test_a_fringe_has_teeth_at_every_tip() -> None:
    assert runs(around(flat(replace(KIND, shape="fringe", petals=4), 400), 0.93)[1] > 0.4) >= 12


def test_the_centre_has_its_size_and_colour() -> None:
    for size in (0.15, 0.3):
        kind = replace(KIND, petals=17, shape="strap", centre_size=size, centre=RED)
        inside, outside = around(flat(kind), size * 0.85), around(flat(kind), size * 1.25)
        assert (inside[0] > 2 * inside[1]).all()
        assert (outside[0] < 1.2 * outside[1] + 0.02).all()


@pytest.mark.parametrize(("pattern", "low", "high"), [("eyed", 0.4, 0.8), ("tipped", 0.85, 0.5), ("edged", 0.9, 0.4)])
def test_a_pattern_lies_where_its_name_says(pattern: str, low: float, high: float) -> None:
    """Red marks on white petals at one distance along the axes of the petals, none at the other."""
    canvas = flat(replace(KIND, pattern=pattern, petals=8, shape="strap"))

    def redness(distance: float) -> float:
        red, green, _ = around(canvas, distance)
        return float(np.median(((red - green) / np.maximum(red, 0.1))[red > 0.5]))

    assert redness(low) > 0.5
    assert redness(high) < 0.2


@pytest.mark.parametrize(
    "change",
    [{"petals": 7}, {"rings": 2}, {"petal": YELLOW}, {"centre": RED}, {"centre_size": 0.3}]
    + [{"shape": shape} for shape in OUTLINES if shape != KIND.shape]
    + [{"pattern": pattern} for pattern in PATTERNS if pattern != KIND.pattern]
    + [{"centre_style": style} for style in CENTRES if style != KIND.centre_style],
    ids=str,
)
def test_every_trait_shows_in_the_picture(change: dict[str, Any]) -> None:
    """The same pose and light with one trait changed differs by more than a few stray pixels, even at 32 pixels."""
    one, other = (
        np.asarray(paint(kind, np.random.default_rng(4), 32), dtype=int) for kind in (KIND, replace(KIND, **change))
    )
    assert (np.abs(one - other).max(-1) > 20).sum() > 5


def test_plants_of_a_kind_vary_in_colour_and_size_of_the_centre_alone() -> None:
    rng = np.random.default_rng(0)
    plants = [_individual(KIND, rng) for _ in range(50)]
    same = [(p.name, p.petals, p.rings, p.shape, p.pattern, p.centre_style) for p in plants]
    assert set(same) == {("test", 6, 1, "lance", "plain", "button")}
    assert 0.015 < np.std([plant.mark[0] for plant in plants]) < 0.04
    assert all(0.6 < plant.centre_size / KIND.centre_size < 1.4 for plant in plants)
    assert np.std([plant.centre_size for plant in plants]) > 0.05 * KIND.centre_size


def test_a_picture_is_seen_in_the_light_of_its_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blossoms, "light", lambda canvas, rng: canvas * 0 + 1)
    assert np.asarray(paint(KIND, np.random.default_rng(0), 32)).min() == 255


def test_a_blossom_off_the_canvas_leaves_it_alone() -> None:
    canvas = np.full((3, 40, 40), 0.5, dtype=np.float32)
    paint_blossom(canvas, KIND, np.random.default_rng(0), 3.0, 0.5, 0.4)
    assert (canvas == 0.5).all()
