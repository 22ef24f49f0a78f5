"""A painter of blossoms: pictures of a kind of flower, stylised as on a poster, varied as in snapshots."""

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ppfsl.data.scenery import Colour, blend, light, paint_leaf, picture_of, rgb, scenery, window

DRAWING = 1
"""The version of the drawing: raise it when a change of the code changes a picture."""

# Outline of a petal: its half-width goes as t^rise * (1-t)^fall (t: 0 at the middle of the blossom, 1 at the tip); the
# share of the room between its neighbours that it fills; the depths of the notch and of the fringe at its tip.
OUTLINES: dict[str, tuple[float, float, float, float, float]] = {
    "strap": (0.30, 0.22, 0.80, 0.0, 0.0),
    "lance": (0.85, 0.95, 0.95, 0.0, 0.0),
    "round": (0.95, 0.42, 1.12, 0.0, 0.0),
    "heart": (1.05, 0.34, 1.10, 0.22, 0.0),
    "fringe": (1.30, 0.20, 1.10, 0.0, 0.16),
    "spoon": (2.30, 0.55, 0.98, 0.0, 0.0),
}
PATTERNS = ("plain", "eyed", "edged", "striped", "spotted", "tipped")
CENTRES = ("button", "ringed", "stamens", "star")
_OVERSAMPLING = 2
_STEPS = 256  # a petal's outline is tabled at so many steps along it
_REACH = 1.1  # how far a ring of petals and its shadow reach, in lengths of its petals


@dataclass(frozen=True)
class Kind:
    """What makes a class: the same in every picture of it, up to the small variation that `paint` adds.

    Attributes:
        name: in words.
        petals: number of petals in a ring.
        rings: number of rings, the inner ones shorter.
        shape: of a petal, a key of `OUTLINES`.
        petal: colour of the petals.
        pattern: how the second colour lies on a petal, one of `PATTERNS`.
        mark: the second colour.
        centre_style: one of `CENTRES`.
        centre_size: radius of the centre, as a fraction of the blossom's.
        centre: colour of the centre.
    """

    name: str
    petals: int
    rings: int
    shape: str
    petal: Colour
    pattern: str
    mark: Colour
    centre_style: str
    centre_size: float
    centre: Colour


def paint(kind: Kind, rng: np.random.Generator, size: int) -> Image.Image:
    """A picture of a kind, RGB, `size` x `size` pixels.

    The numbers drawn from `rng` do not depend on `size`: from the same state it gives the same picture at every size.
    """
    canvas = scenery(rng, size * _OVERSAMPLING)
    plant = _individual(kind, rng)
    x, y = (0.5 + max(-0.17, min(0.17, rng.normal(0.0, 0.08))) for _ in range(2))
    radius = rng.uniform(0.25, 0.46)
    for _ in range(rng.integers(0, 4)):
        paint_leaf(canvas, rng, x, y, rng.uniform(0.0, 2 * math.pi))
    if rng.random() < 0.3:  # a second blossom of the plant, half behind the first
        away, distance = rng.uniform(0.0, 2 * math.pi), radius * rng.uniform(1.0, 1.7)
        smaller = radius * rng.uniform(0.55, 0.9)
        paint_blossom(canvas, plant, rng, x + distance * math.cos(away), y + distance * math.sin(away), smaller)
    paint_blossom(canvas, plant, rng, x, y, radius)
    if rng.random() < 0.3:  # a leaf reaches in from the border, before the blossom
        side = rng.uniform(0.0, 2 * math.pi)
        turn = math.pi + rng.uniform(-0.6, 0.6)
        paint_leaf(canvas, rng, x + 0.75 * math.cos(side), y + 0.75 * math.sin(side), side + turn)
    return picture_of(light(canvas, rng), _OVERSAMPLING)


def _individual(kind: Kind, rng: np.random.Generator) -> Kind:
    """One plant of a kind: its colours and the size of its centre a little off."""
    hue = rng.normal(0.0, 0.025)

    def vary(colour: Colour) -> Colour:
        return colour[0] + hue, colour[1] * rng.uniform(0.7, 1.2), colour[2] * rng.uniform(0.88, 1.1)

    return replace(
        kind,
        petal=vary(kind.petal),
        mark=vary(kind.mark),
        centre=vary(kind.centre),
        centre_size=kind.centre_size * rng.uniform(0.85, 1.15),
    )


@dataclass(frozen=True)
class _Pixels:
    """Pixels in a blossom's own frame, flat, lengths in its radii.

    Attributes:
        colours: RGB, [3, n]; what painting changes.
        right, up: positions [n].
        distance: from the middle [n].
        width: of a pixel.
    """

    colours: np.ndarray
    right: np.ndarray
    up: np.ndarray
    distance: np.ndarray
    width: float

    def within(self, radius: float) -> tuple[np.ndarray, "_Pixels"]:
        """The pixels nearer the middle than `radius`: their indices, and a copy of them."""
        near = np.flatnonzero(self.distance < radius)
        parts = (self.colours[:, near], self.right[near], self.up[near], self.distance[near])
        return near, _Pixels(*parts, self.width)


def paint_blossom(canvas: np.ndarray, plant: Kind, rng: np.random.Generator, x: float, y: float, radius: float) -> None:
    """One blossom about (x, y), seen from some side, and the shadow that it casts."""
    lean, spin, sun = rng.uniform(0.0, 2 * math.pi, 3).tolist()
    tilt, cup = math.radians(rng.triangular(0.0, 10.0, 58.0)), rng.uniform(-0.2, 0.35)
    rings = [_ring(plant, number, rng) for number in range(plant.rings)]
    place = window(canvas, x, y, radius * 1.3)
    if place is None:
        return
    view, dx, dy = place
    far = np.hypot(dx - 0.08 * radius * math.cos(sun), dy - 0.08 * radius * math.sin(sun)) / radius
    view *= 1.0 - 0.4 * np.clip(1.9 - 1.6 * far, 0, 1)
    # Turn the lean upright, lift what is cupped towards the eye, undo the foreshortening, then the blossom's own spin.
    right, up = _turned(dx / radius, dy / radius, lean)
    up = (up + cup * math.sin(tilt) * (right * right + up * up)) / math.cos(tilt)
    right, up = (part.ravel() for part in _turned(right, up, spin))
    colours = view.reshape(3, -1)
    pixels = _Pixels(colours, right, up, np.hypot(right, up), 1 / (radius * canvas.shape[-1]))
    for ring in rings:
        _paint_ring(pixels, plant, ring, sun - lean - spin)
    _paint_centre(pixels, plant)
    view[:] = colours.reshape(view.shape)


def _turned(right: np.ndarray, up: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * right + sin * up, cos * up - sin * right


@dataclass(frozen=True)
class _Ring:
    """A ring of petals.

    Attributes:
        directions: of its petals, radians [n].
        lengths: of its petals, in radii of the blossom [n].
        shift: of the whole ring, in petals.
        half_width: where a petal is widest, in its lengths.
        outline: half-width [_STEPS] along a petal, in its lengths.
        notch, fringe: depths of what is missing at the tip, in its lengths.
    """

    directions: np.ndarray
    lengths: np.ndarray
    shift: float
    half_width: float
    outline: np.ndarray
    notch: float
    fringe: float


def _ring(plant: Kind, number: int, rng: np.random.Generator) -> _Ring:
    """The ring of that number, 0 the outermost; each lies in the gaps of the one before."""
    rise, fall, fill, notch, fringe = OUTLINES[plant.shape]
    step, shift = 2 * math.pi / plant.petals, 0.5 * number
    directions = (np.arange(plant.petals) + shift + rng.uniform(-0.08, 0.08, plant.petals)) * step
    lengths = 0.98 * 0.7**number * rng.uniform(0.92, 1.0, plant.petals)
    t = np.linspace(0.0, 1.0, _STEPS)
    profile = t**rise * (1 - t) ** fall
    widest = rise / (rise + fall)  # where the profile has its maximum
    half_width = min(fill * rng.uniform(0.92, 1.08) * widest * math.tan(step / 2), 0.48)
    return _Ring(
        directions=directions.astype(np.float32),
        lengths=lengths.astype(np.float32),
        shift=shift,
        half_width=half_width,
        outline=(half_width * profile / profile.max()).astype(np.float32),
        notch=notch,
        fringe=fringe,
    )


def _paint_ring(pixels: _Pixels, plant: Kind, ring: _Ring, sun: float) -> None:
    near, spot = pixels.within(_REACH * float(ring.lengths.max()))
    count = len(ring.directions)
    # Each petal lies on the next one, all the way round: of the two beside a pixel the first is the upper one.
    before = np.floor(np.arctan2(spot.up, spot.right) * (count / (2 * math.pi)) - ring.shift).astype(np.intp)
    upper, upper_t, upper_s = _on_petal(spot, ring, before % count)
    lower, lower_t, lower_s = _on_petal(spot, ring, (before + 1) % count)
    on_top = upper > 0
    depth = np.maximum(upper, lower)
    t, s = np.where(on_top, upper_t, lower_t), np.where(on_top, upper_s, lower_s)
    facing = (0.10 * np.cos(ring.directions - sun)).astype(np.float32)[(before + ~on_top) % count]
    shade = 0.92 + 0.16 * t - 0.16 * s * s + facing - 0.05 * np.cos(s * 14) * t
    shade *= 1.0 - 0.4 * np.clip(1.0 + upper * 7, 0, 1) * ~on_top
    spot.colours[:] *= 1.0 - 0.35 * np.clip(1.0 + depth * 8, 0, 1)  # the shadow on what lies below
    body, mark = rgb(plant.petal), rgb(plant.mark)
    amount = _pattern(plant.pattern, t, s)
    cover = np.clip(depth / pixels.width + 0.5, 0, 1)
    blend(spot.colours, cover, [shade * (body[c] + amount * (mark[c] - body[c])) for c in range(3)])
    pixels.colours[:, near] = spot.colours


def _on_petal(spot: _Pixels, ring: _Ring, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where pixels lie on the petals of those indices, in lengths of the petal.

    Returns:
        How deep inside the outline (negative outside); how far along, 0 at the middle of the blossom and 1 at the tip;
        how far across, 0 on the axis and 1 on the outline.
    """
    cos = (np.cos(ring.directions) / ring.lengths)[index]
    sin = (np.sin(ring.directions) / ring.lengths)[index]
    along, over = spot.right * cos + spot.up * sin, np.abs(spot.up * cos - spot.right * sin)
    half = np.take(ring.outline, (along * _STEPS).astype(np.intp), mode="clip")
    depth = np.minimum(half - over, 1.0 - along)
    if ring.notch:
        notch = ring.notch * np.maximum(1.0 - over / (0.6 * ring.half_width), 0)
        depth = np.minimum(depth, 1.0 - notch - along)
    if ring.fringe:
        tooth = np.abs((over * (2.5 / ring.half_width)) % 1.0 - 0.5) * 2
        depth = np.minimum(depth, 1.0 - ring.fringe * tooth - along)
    return depth, along, np.minimum(over / np.maximum(half, 1e-3), 1)


def _pattern(pattern: str, t: np.ndarray, s: np.ndarray) -> np.ndarray | float:
    """How much of the second colour lies at t along and s across a petal, in [0, 1]."""
    if pattern == "eyed":
        return np.clip((0.55 - t) * 12, 0, 1)
    if pattern == "tipped":
        return np.clip((t - 0.68) * 9, 0, 1)
    if pattern == "edged":
        return np.clip((np.maximum(s, t * 0.95) - 0.70) * 9, 0, 1)
    if pattern == "striped":
        return np.clip((0.36 - s) * 9, 0, 1)
    if pattern == "spotted":
        return np.clip((np.cos(t * 22) * np.cos(s * 6.3) - 0.2) * 4, 0, 1) * (t < 0.9)
    return 0.0


def _paint_centre(pixels: _Pixels, plant: Kind) -> None:
    size, colour = plant.centre_size, rgb(plant.centre)
    near, spot = pixels.within(2 * size)
    angle, inside = np.arctan2(spot.up, spot.right), spot.distance / size
    if plant.centre_style == "star":
        inside = inside * (1.0 + 0.28 * np.cos(5 * angle))
    spot.colours[:] *= 1.0 - 0.3 * np.clip(1.0 - (inside - 1.0) * 2.5, 0, 1)
    dome = 1.1 - 0.4 * inside * inside + 0.12 * np.cos(8 * angle + 20 * inside) * np.cos(9 * inside)
    if plant.centre_style == "ringed":
        dome = dome * np.where(inside > 0.6, 1.0, 0.45)
    blend(spot.colours, np.clip((1.0 - inside) * (size / pixels.width) + 0.5, 0, 1), [dome * c for c in colour])
    if plant.centre_style == "stamens":
        apart = 2 * math.pi / 9
        turned = ((angle / apart) % 1.0 - 0.5) * apart
        off = np.hypot(turned * spot.distance, spot.distance - 1.45 * size)
        blend(spot.colours, np.clip((0.28 * size - off) / pixels.width + 0.5, 0, 1), colour)
    pixels.colours[:, near] = spot.colours
