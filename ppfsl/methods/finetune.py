"""Fine-tuning: a softmax head on similarities, started at the class means and fitted to the support set.

Logits of query q: scale * cos(w_k, q) + b_k (or w_k . q in place of the cosine). W starts as the class means, b as 0.
Loss: cross-entropy on the support set + weight * mean entropy of predictions, over the support set (inductive) or over
the unlabelled queries (transductive: Dhillon et al. 2020, "A Baseline for Few-Shot Image Classification").
"""

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import paddle
import paddle.nn.functional as F

from ppfsl import losses
from ppfsl.backbones.embedder import Embedder
from ppfsl.config import FinetuneConfig
from ppfsl.methods.base import Classifier, Support
from ppfsl.methods.class_mean import class_means
from ppfsl.methods.softmax_heads import Inputs, fit_heads
from ppfsl.optimizers import build_optimizer
from ppfsl.randomness import generator


@dataclass(frozen=True)
class _Finetuning:
    """What both variants say of themselves."""

    config: FinetuneConfig

    @property
    def name(self) -> str:
        """In reports."""
        return self.config.label or self.config.name

    @property
    def transductive(self) -> bool:
        """Whether it minimises the entropy of the queries' predictions."""
        return self.config.entropy == "query"


@dataclass(frozen=True)
class Finetune(_Finetuning):
    """The fine-tuned head on the embeddings of a frozen embedder, for many episodes at once.

    Attributes:
        config: initialisation, similarity, entropy, optimizer, steps.
        seed: of the random initialisation.
    """

    seed: int = 0
    inputs: Literal["embedding"] = "embedding"

    def adapt(self, support: Support) -> Classifier:
        """Fit one head per episode; the episodes do not influence one another."""
        head = _Head(self.config, self.seed, support, support.inputs)
        embeddings = head.comparable(support.inputs)  # once, since the embedder is frozen
        unlabelled = None if support.unlabelled is None else head.comparable(support.unlabelled)
        if paddle.get_device() == "cpu" and support.inputs.dtype == paddle.float32:
            head.fit(support, embeddings, unlabelled)
            return head.freeze()
        optimizer = build_optimizer(self.config.optimizer, head.parameters)
        for _ in range(self.config.steps):
            # The mean over episodes times their number: each head gets the gradient it would get alone.
            (head.loss(support, embeddings, unlabelled) * len(support.numbers)).backward()
            optimizer.step()
            optimizer.clear_grad()
        return head.freeze()


@dataclass(frozen=True)
class FinetuneAll(_Finetuning):
    """Fine-tuning of head and embedder together, on a copy of the embedder per episode.

    Batch norm stays in evaluation mode, since a support set is too small for statistics of its own.

    Attributes:
        config: as for `Finetune`.
        embedder: where each episode starts; never changed.
        seed: of the random initialisation.
    """

    embedder: Embedder
    seed: int = 0
    inputs: Literal["image"] = "image"

    def adapt(self, support: Support) -> Classifier:
        """Fit one embedder and head per episode, one after another."""
        classifiers = [self._adapt_one(support, episode) for episode in range(len(support.numbers))]

        def classify(query: paddle.Tensor) -> paddle.Tensor:
            return paddle.concat([one(query[i : i + 1]) for i, one in enumerate(classifiers)])

        return classify

    def _adapt_one(self, batch: Support, episode: int) -> Classifier:
        one = slice(episode, episode + 1)
        unlabelled = None if batch.unlabelled is None else batch.unlabelled[one]
        support = Support(batch.inputs[one], batch.labels, batch.way, batch.numbers[one], unlabelled)
        embedder = copy.deepcopy(self.embedder)
        embedder.eval()
        for parameter in embedder.parameters():  # the last stage of training may have frozen some
            parameter.stop_gradient = False

        def embed(images: paddle.Tensor) -> paddle.Tensor:
            return embedder(images[0]).unsqueeze(0)

        with paddle.no_grad():
            head = _Head(self.config, self.seed, support, embed(support.inputs))
        parameters = [*head.parameters, *embedder.parameters()]
        optimizer = build_optimizer(self.config.optimizer, parameters)
        for _ in range(self.config.steps):
            queries = None if support.unlabelled is None else head.comparable(embed(support.unlabelled))
            head.loss(support, head.comparable(embed(support.inputs)), queries).backward()
            optimizer.step()
            optimizer.clear_grad()
        classify = head.freeze()

        def classify_images(query: paddle.Tensor) -> paddle.Tensor:
            with paddle.no_grad():
                return classify(embed(query))

        return classify_images


class _Head:
    """W [E, D, way] and b [E * way] of one softmax head per episode; b is a vector, which weight decay spares."""

    def __init__(self, config: FinetuneConfig, seed: int, support: Support, embeddings: paddle.Tensor) -> None:
        self.config = config
        weight = class_means(embeddings, support.labels, support.way)
        if config.initialization == "random":
            shape = tuple(weight.shape[1:])
            # Columns of about the class means' length, one.
            draws = [generator(seed, "head", int(n)).normal(0, shape[0] ** -0.5, shape) for n in support.numbers]
            weight = paddle.to_tensor(np.stack(draws).astype(np.float32))
        self.weight = _parameter(weight)
        self.bias = _parameter(paddle.zeros([len(support.numbers) * support.way]))
        self.parameters = [self.weight, self.bias]

    def comparable(self, embeddings: paddle.Tensor) -> paddle.Tensor:
        """Embeddings as the similarity wants them: of length one for the cosine."""
        return F.normalize(embeddings, axis=-1) if self.config.similarity == "cosine" else embeddings

    def logits(self, comparable: paddle.Tensor) -> paddle.Tensor:
        """[E, Q, D] -> [E, Q, way]."""
        weight = F.normalize(self.weight, axis=1) if self.config.similarity == "cosine" else self.weight
        return self.config.scale * (comparable @ weight) + self.bias.reshape([-1, 1, self.weight.shape[-1]])

    def loss(self, support: Support, comparable: paddle.Tensor, unlabelled: paddle.Tensor | None) -> paddle.Tensor:
        """Cross-entropy plus weighted entropy, the mean over episodes."""
        logits = self.logits(comparable)
        labels = support.labels.unsqueeze(0).expand([logits.shape[0], -1])
        loss = losses.cross_entropy(logits, labels)
        if self.config.entropy == "support":
            loss = loss + self.config.entropy_weight * losses.entropy(logits)
        if self.config.entropy == "query":
            if unlabelled is None:
                raise ValueError("entropy over the queries needs the unlabelled queries")
            loss = loss + self.config.entropy_weight * losses.entropy(self.logits(unlabelled))
        return loss

    def fit(self, support: Support, comparable: paddle.Tensor, unlabelled: paddle.Tensor | None) -> None:
        """What as many steps of an optimizer on `loss` come to, in numpy."""
        weight = np.ascontiguousarray(self.weight.numpy().transpose(0, 2, 1))
        bias = self.bias.numpy().reshape(weight.shape[:2])
        others = unlabelled.numpy() if unlabelled is not None and self.config.entropy == "query" else None
        fit_heads(self.config, Inputs(comparable.numpy(), support.membership.numpy(), others), weight, bias)
        self.weight.set_value(weight.transpose(0, 2, 1))
        self.bias.set_value(bias.reshape(-1))

    def freeze(self) -> Classifier:
        """The head as it is now, as a classifier."""
        for parameter in self.parameters:
            parameter.stop_gradient = True
        return lambda query: self.logits(self.comparable(query))


def _parameter(value: paddle.Tensor) -> paddle.Tensor:
    parameter = paddle.create_parameter(value.shape, str(value.dtype).rsplit(".", 1)[-1])
    parameter.set_value(value)
    return parameter
