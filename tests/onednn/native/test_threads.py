"""Threads that compute at once, within the context and outside."""

import threading
from contextlib import nullcontext

import numpy as np
import paddle
import paddle.nn.functional as F

from ppfsl.onednn import fast_operators
from tests.onednn.native.maps import normalised


def loss_and_gradients(seed: int, context=fast_operators) -> list[np.ndarray]:
    chance = np.random.default_rng(seed)
    shapes = ((4, 3, 12, 12), (8, 3, 3, 3), (8, 1, 3, 3), (8,), (8,))
    tensors = [paddle.to_tensor(chance.normal(size=shape).astype(np.float32), stop_gradient=False) for shape in shapes]
    images, first, second, weight, bias = tensors
    with context():
        maps = F.relu(F.max_pool2d(normalised(F.conv2d(images, first, padding=1), weight, bias), 2))
        loss = F.conv2d(maps, second, groups=8).square().mean()
    loss.backward()  # Paddle's `grad` serves one thread at a time
    return [loss.numpy(), *(tensor.grad.numpy() for tensor in tensors)]


def test_two_threads_at_once_give_the_numbers_of_one():
    expected = {seed: loss_and_gradients(seed) for seed in range(2)}
    start, wrong = threading.Barrier(2), []

    def work(seed: int) -> None:
        start.wait()
        for _ in range(15):
            for found, value in zip(loss_and_gradients(seed), expected[seed], strict=True):
                if not np.array_equal(found, value):
                    wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_threads_keep_paddles_own(calls):
    results = []
    with fast_operators():
        thread = threading.Thread(target=lambda: results.append(loss_and_gradients(0, nullcontext)))
        thread.start()
        thread.join()
    assert not calls
    for found, own in zip(results[0], loss_and_gradients(0, nullcontext), strict=True):
        np.testing.assert_array_equal(found, own)
