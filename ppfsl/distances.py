"""Distances and similarities between two sets of vectors, for many episodes at once."""

import numpy as np
import paddle
import paddle.nn.functional as F


def squared_euclidean(left: paddle.Tensor, right: paddle.Tensor) -> paddle.Tensor:
    """Squared Euclidean distances, never negative: [..., N, D] and [..., M, D] -> [..., N, M]."""
    norms = (left * left).sum(-1).unsqueeze(-1) + (right * right).sum(-1).unsqueeze(-2)
    return F.relu(norms - 2 * paddle.matmul(left, right, transpose_y=True))


def cosine(left: paddle.Tensor, right: paddle.Tensor) -> paddle.Tensor:
    """Cosine similarities, -1..1: [..., N, D] and [..., M, D] -> [..., N, M]."""
    return paddle.matmul(F.normalize(left, axis=-1), F.normalize(right, axis=-1), transpose_y=True)


def normalized(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; a zero vector stays: float32 [..., D] -> [..., D]."""
    with np.errstate(over="ignore"):  # of an embedder that diverges, which training says better
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
