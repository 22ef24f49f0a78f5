"""Vectors and maps that operators are differentiated at."""

import numpy as np

_RNG = np.random.default_rng(0)
VECTORS = _RNG.normal(size=(4, 6))
MAPS = _RNG.normal(size=(2, 4, 7, 6))
