"""What surrounds a painted blossom: backgrounds out of focus, leaves, and the light of the day.

A canvas is float32 [3, S, S], planar RGB in [0, 1]; positions and lengths are fractions of its side, so that a scene
looks the same at every size.
"""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

Colour = tuple[float, float, float]
"""Hue (turns), saturation and value, each in [0, 1]; the hue may lie outside and wraps."""

# For each place: the two colours that its blur runs between (hue, saturation, value), and what stands out of focus.
_PLACES: tuple[tuple[Colour, Colour, str], ...] = (
    ((0.28, 0.60, 0.42), (0.33, 0.65, 0.16), "stems"),  # meadow
    ((0.24, 0.50, 0.62), (0.30, 0.55, 0.34), "stems"),  # young grass
    ((0.38, 0.45, 0.30), (0.42, 0.60, 0.10), "discs"),  # hedge in the shade
    ((0.07, 0.45, 0.38), (0.06, 0.50, 0.18), "grain"),  # soil
    ((0.10, 0.30, 0.66), (0.09, 0.35, 0.42), "grain"),  # dry grass, sand
    ((0.58, 0.45, 0.90), (0.56, 0.15, 0.97), "clouds"),  # sky
    ((0.62, 0.12, 0.62), (0.60, 0.10, 0.38), "clouds"),  # stone, rain
    ((0.78, 0.35, 0.42), (0.70, 0.50, 0.16), "discs"),  # dusk
    ((0.95, 0.40, 0.62), (0.03, 0.45, 0.36), "discs"),  # brick, autumn leaves
)
_BLUR = 32  # a background is painted on so many pixels and enlarged, which is its blur


def rgb(colour: Colour) -> np.ndarray:
    """A colour as RGB in [0, 1]: float32 [3]; saturation and value are clipped."""
    hue, saturation, value = colour
    clipped = (min(max(part, 0.0), 1.0) for part in (saturation, value))
    return np.asarray(colorsys.hsv_to_rgb(hue % 1.0, *clipped), dtype=np.float32)


def window(canvas: np.ndarray, x: float, y: float, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The part of a canvas within `radius` of a point, as a view, and its pixels' offsets from the point.

    Returns:
        view [3, h, w], dx [1, w], dy [h, 1]; None where nothing of it lies on the canvas.
    """
    side = canvas.shape[-1]
    left, right = (min(max(round((x + way * radius) * side), 0), side) for way in (-1, 1))
    top, bottom = (min(max(round((y + way * radius) * side), 0), side) for way in (-1, 1))
    if left >= right or top >= bottom:
        return None
    dx = (np.arange(left, right, dtype=np.float32)[None, :] + 0.5) / side - x
    dy = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5) / side - y
    return canvas[:, top:bottom, left:right], dx, dy


def blend(view: np.ndarray, cover: np.ndarray, colour: np.ndarray | Sequence[np.ndarray]) -> None:
    """Lay a colour (three numbers or three arrays [h, w]) over `view` [3, h, w] as far as `cover` [h, w] says."""
    for channel in range(3):
        view[channel] += cover * (colour[channel] - view[channel])


def scenery(rng: np.random.Generator, side: int) -> np.ndarray:
    """A background out of focus: a canvas [3, side, side]. It knows nothing of the blossom before it."""
    first, second, detail = _PLACES[rng.integers(len(_PLACES))]
    shift = rng.uniform(-0.04, 0.04)
    brightness = rng.uniform(0.75, 1.25)
    ends = [
        rgb((hue + shift, saturation * rng.uniform(0.6, 1.3), value * brightness))
        for hue, saturation, value in (first, second)
    ]
    angle = rng.uniform(0.0, 2 * math.pi)
    across = np.linspace(-0.5, 0.5, _BLUR, dtype=np.float32)
    slope = math.cos(angle) * across[None, :] + math.sin(angle) * across[:, None]
    mix = np.clip(0.5 + rng.uniform(0.2, 0.8) * slope + 0.45 * _noise(rng, 4) + 0.25 * _noise(rng, 9), 0.0, 1.0)
    small = ends[0][:, None, None] + mix * (ends[1] - ends[0])[:, None, None]
    {"stems": _stems, "discs": _discs, "grain": _grain, "clouds": _clouds}[detail](small, rng)
    if rng.random() < 0.5:
        _other_flowers(small, rng)
    picture = Image.fromarray(_bytes(small)).resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)) / np.float32(255)


def paint_leaf(canvas: np.ndarray, rng: np.random.Generator, x: float, y: float, angle: float) -> None:
    """A leaf in focus: from its stalk at (x, y) along `angle` (radians, clockwise from the right)."""
    length, slim = rng.uniform(0.35, 0.7), rng.uniform(0.10, 0.24)
    bend = rng.uniform(-0.35, 0.35)
    body = rgb((rng.uniform(0.22, 0.40), rng.uniform(0.4, 0.75), rng.uniform(0.22, 0.62)))
    place = window(canvas, x + math.cos(angle) * length / 2, y + math.sin(angle) * length / 2, length * 0.62)
    if place is None:
        return
    view, dx, dy = place
    cos, sin = math.cos(angle), math.sin(angle)
    along = (cos * dx + sin * dy) / length + 0.5
    over = (cos * dy - sin * dx) / length + bend * along * (1 - along)
    half = slim * 4 * np.maximum(along * (1 - along), 0)
    cover = np.clip((half - np.abs(over)) * (length * canvas.shape[-1]) + 0.5, 0, 1) * ((along > 0) & (along < 1))
    rib = np.clip(1.6 - np.abs(over) * 90, 0, 1) * 0.25
    veins = 0.05 * np.sin((along - np.abs(over)) * 70)
    shade = 1.0 + rib + veins + np.where(over > 0, 0.12, -0.12)
    blend(view, cover, [shade * part for part in body])


def light(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The canvas in the light of some hour: brightness, colour cast, contrast, a side in the shade."""
    angle, depth = rng.uniform(0.0, 2 * math.pi), rng.uniform(0.0, 0.45)
    warm, tint = rng.normal(0.0, 0.09), rng.normal(0.0, 0.04)
    cast = np.exp(np.asarray([warm, tint, -warm], dtype=np.float32)) * rng.uniform(0.85, 1.3)
    across = np.linspace(-0.5, 0.5, canvas.shape[-1], dtype=np.float32)
    side = math.cos(angle) * across[None, :] + math.sin(angle) * across[:, None]
    shaded = canvas * (cast[:, None, None] * (1.0 - depth * np.clip(0.5 + 1.2 * side, 0, 1)))
    contrast = np.float32(rng.uniform(0.8, 1.15))
    return 0.5 + contrast * (shaded - 0.45)


def picture_of(canvas: np.ndarray, shrink: int) -> Image.Image:
    """A canvas as an RGB picture, `shrink` pixels averaged into one each way."""
    return Image.fromarray(_bytes(canvas)).reduce(shrink)


def _bytes(canvas: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((np.clip(canvas, 0.0, 1.0) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise about 0 with so many cells a side: float32 [_BLUR, _BLUR]."""
    values = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(values.resize((_BLUR, _BLUR), Image.Resampling.BICUBIC))


def _stems(small: np.ndarray, rng: np.random.Generator) -> None:
    across = np.linspace(0.0, 1.0, _BLUR, dtype=np.float32)
    for _ in range(rng.integers(3, 9)):
        middle = rng.uniform(-0.2, 1.2) + rng.uniform(-0.7, 0.7) * (across[:, None] - 0.5)
        thick = rng.uniform(0.02, 0.06)
        cover = 0.7 * np.exp(-(((across[None, :] - middle) / thick) ** 2))
        blend(small, cover, rgb((rng.uniform(0.2, 0.36), rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.75))))


def _discs(small: np.ndarray, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(4, 12)):
        colour = rgb((rng.uniform(0.08, 0.4), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.9)))
        _disc(small, rng, colour, rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.6))


def _grain(small: np.ndarray, rng: np.random.Generator) -> None:
    small *= 1 + 0.15 * _noise(rng, 24)


def _clouds(small: np.ndarray, rng: np.random.Generator) -> None:
    cover = np.clip(0.6 * _noise(rng, 5), 0, 0.8)
    blend(small, cover, rgb((0.6, 0.03, rng.uniform(0.6, 1.0))))


def _other_flowers(small: np.ndarray, rng: np.random.Generator) -> None:
    """Flowers far behind, of any colour."""
    colour = (rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.5, 1.0))
    for _ in range(rng.integers(2, 7)):
        near = (colour[0] + rng.normal(0.0, 0.03), *colour[1:])
        _disc(small, rng, rgb(near), rng.uniform(0.05, 0.14), rng.uniform(0.4, 0.85))


def _disc(small: np.ndarray, rng: np.random.Generator, colour: np.ndarray, radius: float, strength: float) -> None:
    x, y = rng.uniform(0.0, 1.0, 2)
    place = window(small, x, y, radius * 1.5)
    if place is not None:
        view, dx, dy = place
        blend(view, strength * np.clip((radius - np.hypot(dx, dy)) * 16 + 0.5, 0, 1), colour)
