"""Numbers behind the figures: intervals of proportions, principal components."""

import math

import numpy as np


def wilson_interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a proportion: (low, high), fractions; (0, 1) where nothing was counted."""
    if total == 0:
        return 0.0, 1.0
    share, square = correct / total, z * z / total
    centre = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def two_components(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first two principal components of the rows of a matrix.

    Args:
        matrix: [N, D], finite, N at least 1.

    Returns:
        (positions [N, 2], share of the variance of each component [2]). Signs are fixed: the largest loading of each
        component is positive.

    Raises:
        ValueError: when the matrix has no rows or holds NaN or infinities.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or not len(matrix) or not np.isfinite(matrix).all():
        raise ValueError(f"embeddings must be a finite matrix [N, D] with rows, not {matrix.shape}")
    centred = matrix - matrix.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    variance = values**2
    shares = variance[:2] / max(variance.sum(), np.finfo(float).tiny)
    missing = 2 - len(axes)
    return np.pad(centred @ axes.T, ((0, 0), (0, missing))), np.pad(shares, (0, missing))
