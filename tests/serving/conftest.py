"""A tiny embedder, and pictures whose colours are their classes."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ppfsl.backbones.embedder import Architecture, build_embedder
from ppfsl.classifier.build import Source
from ppfsl.config import ClassMeanConfig
from ppfsl.serving.sessions import Limits, Sessions

COLOURS = {"red": (220, 30, 30), "绿": (30, 220, 30), "blue": (30, 30, 220)}


@pytest.fixture(scope="session")
def picture() -> Callable[[str, int], bytes]:
    """Gives a noisy PNG of a colour, one per number."""

    def draw(label: str, number: int) -> bytes:
        rng = np.random.default_rng([number, *label.encode()])
        pixels = (np.array(COLOURS[label]) + rng.normal(0, 20, (30, 40, 3))).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()

    return draw


@pytest.fixture(scope="session")
def source() -> Source:
    embedder = build_embedder(Architecture("conv4", 16, options=(("width", 8),)), 0)
    embedder.eval()
    return Source(embedder, 20, "a test", None)


@pytest.fixture
def open_sessions(source: Source) -> Callable[..., Sessions]:
    def make(clock: Callable[[], float] = lambda: 0.0, **limits: float) -> Sessions:
        return Sessions(source, ClassMeanConfig(name="class_mean"), Limits(**limits), clock)

    return make
