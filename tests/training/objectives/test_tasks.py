"""Meta-batches of tasks: whose images in which order, and the sums of the tasks' own gradients."""

from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ppfsl.backbones.embedder import Architecture, Embedder, build_embedder
from ppfsl.config.objectives import Objective as Keys
from ppfsl.data.episodes import EpisodeSampler
from ppfsl.errors import UserError
from ppfsl.methods.base import Support
from ppfsl.methods.build import build_task_learner
from ppfsl.methods.gradient_based import Task
from ppfsl.randomness import generator
from ppfsl.training.objectives.tasks import Tasks

LABELS = generator(0, "labels").permutation(np.repeat(np.arange(6), (7, 6, 9, 6, 6, 8)))
LAYOUT = {"way": 3, "shot": 2, "query": 3}
SIZE = 3 * (2 + 3)
KINDS: dict[str, dict[str, Any]] = {
    "maml": {"name": "maml", "inner_steps": 2},
    "maml, first order": {"name": "maml", "order": 1},
    "meta_sgd": {"name": "meta_sgd"},
    "reptile": {"name": "reptile", "inner_batch": 4, "inner_lr": 0.01},
}
every = pytest.mark.parametrize("kind", KINDS)


def embedder() -> Embedder:
    found = build_embedder(Architecture("conv4", 16, 1, None, "unit", (("width", 4),)), 0)
    found.to(dtype="float64")
    return found


def tasks(kind: str, labels: np.ndarray = LABELS, seed: int = 0, **changes: Any) -> Tasks:
    config = TypeAdapter(Keys).validate_python({**KINDS[kind], **LAYOUT, **changes})
    method = build_task_learner(config, embedder(), 0)
    for layer in (method.network, method.layer):
        layer.to(dtype="float64")
        for parameter in layer.parameters():
            parameter.stop_gradient = False
    return Tasks(config, method, labels, seed)


def images(count: int) -> paddle.Tensor:
    return paddle.to_tensor(generator(0, "images").uniform(0, 255, (count * SIZE, 1, 16, 16)))


def task(part: paddle.Tensor, chance: np.random.Generator) -> Task:
    """The first images are the support set, class by class, the others the queries."""
    support, queries = (paddle.to_tensor(np.repeat([0, 1, 2], count)) for count in (2, 3))
    return Task(part[:6], support, part[6:], queries, chance)


def gradients(objective: Tasks) -> dict[str, np.ndarray]:
    named: dict[str, Any] = dict(objective.method.network.named_parameters())
    named |= {f"rates.{place}": rate for place, rate in enumerate(objective.head.rates)}
    return {name: tensor.grad.numpy() for name, tensor in named.items() if tensor.grad is not None}


# --- batches


@settings(deadline=None, max_examples=25)
@given(
    way=st.integers(2, 6), shot=st.integers(1, 3), query=st.integers(1, 3), count=st.integers(1, 3),
    epoch=st.integers(0, 50), steps=st.integers(1, 4), seed=st.integers(0, 2**40),
)  # fmt: skip
def test_batches_are_the_samplers_episodes_support_set_first(
    way: int, shot: int, query: int, count: int, epoch: int, steps: int, seed: int
) -> None:
    objective = tasks("maml", way=way, shot=shot, query=query, episodes_per_batch=count, seed=seed)
    batches = list(objective.batches(epoch, steps))
    assert len(batches) == steps
    sampler = EpisodeSampler(np.arange(len(LABELS)), LABELS, way, shot, query, seed)
    for step, batch in enumerate(batches):
        assert batch.shape == (count * way * (shot + query),)
        for number, part in enumerate(np.split(batch, count)):
            episode = sampler[(epoch * steps + step) * count + number]
            assert part[: way * shot].tolist() == episode.support.ravel().tolist()
            assert part[way * shot :].tolist() == episode.query.ravel().tolist()


def test_an_epoch_shows_every_image_about_once() -> None:
    assert tasks("maml").steps == len(LABELS) // SIZE == 2
    assert tasks("maml", episodes_per_batch=2).steps == 1
    assert tasks("maml", episodes_per_batch=9).steps == 1


# --- gradients


@every
@pytest.mark.parametrize("count", [1, 3])
def test_gradients_of_a_batch_are_the_mean_of_the_tasks_own(kind: str, count: int) -> None:
    together = tasks(kind, episodes_per_batch=count)
    loss, terms = together.accumulate(images(count), 0, generator(0, "chance"))
    found, chances = gradients(together), generator(0, "chance").spawn(count)
    losses, accuracies, alone = [], [], []
    for part, chance in zip(images(count).split(count), chances, strict=True):
        one = tasks(kind)
        scores = one.method.learn(task(part, chance), 1.0, 0)
        losses.append(scores[0])
        accuracies.append(scores[1])
        alone.append(gradients(one))
    assert loss == pytest.approx(np.mean(losses), rel=1e-9)
    assert terms == {"accuracy": pytest.approx(np.mean(accuracies))}
    names = {name for name, parameter in together.method.network.named_parameters() if parameter.grad is not None}
    assert names == together.method.network.weights().keys()
    assert len(found) == len(names) * (2 if kind == "meta_sgd" else 1)
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, np.mean([one[name] for one in alone], axis=0), rtol=1e-8, atol=1e-14)
        assert np.abs(gradient).max() > 1e-8, name


@every
def test_gradients_are_a_pure_function_of_images_and_chance(kind: str) -> None:
    def of(key: int) -> dict[str, np.ndarray]:
        objective = tasks(kind, episodes_per_batch=2)
        objective.accumulate(images(2), 0, generator(key))
        return gradients(objective)

    first, again, other = of(0), of(0), of(1)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    same = all(np.array_equal(first[name], other[name]) for name in first)
    assert same != (kind == "reptile")


def test_the_epoch_reaches_the_method() -> None:
    found: Any = []
    for epoch in (1, 2):
        objective = tasks("maml", first_order_epochs=2)
        objective.accumulate(images(1), epoch, generator(0))
        found.append(gradients(objective)["linear.weight"])
    plain = tasks("maml")
    plain.accumulate(images(1), 0, generator(0))
    assert np.array_equal(found[1], gradients(plain)["linear.weight"])
    assert not np.allclose(found[0], found[1])


@every
def test_every_task_of_a_batch_leaves_its_running_statistics(kind: str) -> None:
    objective = tasks(kind, episodes_per_batch=2)
    mean = dict(objective.method.network.named_parameters())["embedder.backbone.blocks.0.1._mean"]

    def after(*parts: paddle.Tensor) -> np.ndarray:
        one = tasks(kind)
        for part, chance in zip(parts, generator(0).spawn(2), strict=False):
            one.method.learn(task(part, chance), 1.0, 0)
        return dict(one.method.network.named_parameters())["embedder.backbone.blocks.0.1._mean"].numpy()

    objective.accumulate(images(2), 0, generator(0))
    first, second = images(2).split(2)
    assert np.array_equal(mean.numpy(), after(first, second))
    assert not np.allclose(mean.numpy(), after(first))


@every
def test_loss_and_accuracy_are_those_of_the_methods_answers(kind: str) -> None:
    """What an evaluation on the same images would find, where no chance is in it."""
    objective = tasks(kind, **({"inner_batch": 100} if kind == "reptile" else {}))
    part = images(1)
    asked = task(part, generator(0))
    classify = objective.method.adapt(Support(part[:6].unsqueeze(0), asked.support_labels, 3, np.arange(1)))
    logits = classify(part[6:].unsqueeze(0)).numpy()[0]
    truth = asked.query_labels.numpy()
    own = logits[np.arange(9), truth]
    loss, terms = objective.accumulate(part, 0, generator(0))
    assert loss == pytest.approx((np.log(np.exp(logits).sum(1)) - own).mean(), rel=1e-5)
    assert terms == {"accuracy": pytest.approx((logits.argmax(1) == truth).mean())}


# --- refusals


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"way": 7}, r"^7-way episodes need 7 classes, but there are 6.*; lower objective\.way$"),
        ({"shot": 5}, r"has 6 images, but 5 shots and 3 queries need 8; lower objective\.shot or "),
    ],
)
@every
def test_base_classes_that_cannot_serve_the_tasks_are_refused(kind: str, changes: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tasks(kind, **changes)
