"""Benchmarks of networks: embeddings, training steps, MAML tasks."""

import os
from dataclasses import replace

from benchmarks.compare import Benchmark, Case, Options, Variant
from benchmarks.plans.agreement import close, close_within
from benchmarks.settings import EMBEDDED, NETWORKS, PRETRAINED, TRAINED

EAGER, TORCH = "Paddle eager, default threads", "PyTorch eager"
CORES = os.cpu_count() or 1
_ORDERS = ("order 1", "order 2")


def _weights(network: str, options: Options) -> tuple[str, tuple[Variant, ...]]:
    """The file of a network's weights, and what writes it."""
    path = str(options.work / f"{network}.npz")
    return path, (Variant("weights", "networks_paddle", (network, path)),)


def _title(network: str) -> str:
    setting = NETWORKS[network]
    return f"{setting.backbone}, {setting.pixels} px, batches of {setting.batch}"


def _embedding(options: Options) -> list[Case]:
    def batches(full: int) -> tuple[str, str]:
        return ("--batches", "1" if options.quick else str(full))

    cases = []
    for network in EMBEDDED[:1] if options.quick else EMBEDDED:
        path, prepare = _weights(network, options)
        eager = batches(1)
        variants = (
            Variant("ppfsl's engine", "embed_paddle", (network, "engine", *batches(8))),
            Variant(EAGER, "embed_paddle", (network, "eager", *eager), threads=None),
            Variant(TORCH, "embed_torch", (network, path, *batches(6)), peer=True),
        )
        cases.append(Case(_title(network), variants, prepare if options.peers else (), close(2e-3)))
        if network == EMBEDDED[0] and CORES > 1:
            cases.append(_on_all_cores(cases[-1], (variants[0], variants[2])))
    return cases


def _on_all_cores(case: Case, variants: tuple[Variant, ...]) -> Case:
    """The same work with a thread for every core; Paddle's own default is one thread."""
    name = f"{case.name}, {CORES} threads"
    return replace(case, name=name, variants=tuple(replace(variant, threads=CORES) for variant in variants))


def _training(options: Options) -> list[Case]:
    cases = []
    for network in TRAINED[:1] if options.quick else TRAINED:
        path, prepare = _weights(network, options)
        few, some = (("--steps", "1" if options.quick else count) for count in ("1", "3"))
        variants = (
            Variant(EAGER, "step_paddle", (network, "plain", *few), threads=None),
            Variant("with freed memory kept", "step_paddle", (network, "kept", *few)),
            Variant("with oneDNN as well", "step_paddle", (network, "onednn", *some)),
            Variant(TORCH, "step_torch", (network, path, *some), peer=True),
        )
        cases.append(Case(_title(network), variants, prepare if options.peers else (), close(1e-2)))
        if network == PRETRAINED and CORES > 1:
            cases.append(_on_all_cores(cases[-1], variants[2:]))
    return cases


def _tasks(options: Options) -> list[Case]:
    path = str(options.work / "task.npz")
    prepare = (Variant("weights", "task_paddle", ("1", "1", "--tasks", "1", "--save", path)),) if options.peers else ()
    cases = []
    for steps in (1,) if options.quick else (1, 3):
        common = (str(steps), "--tasks", "1" if options.quick else "6")

        def row(name: str, order: int, *changes: str, common: tuple[str, ...] = common) -> Variant:
            return Variant(name, "task_paddle", (str(order), *common, *changes))

        variants = [
            row("order 1", 1),
            row("order 1, Paddle's own operators", 1, "--plain"),
            row("order 1, twice-differentiable operators", 1, "--plain", "--twice"),
            row("order 1, twice-differentiable operators but Paddle's batch norm", 1, "--plain", "--twice", "--native"),
            row("order 2", 2),
            Variant("PyTorch, order 1", "task_torch", ("1", *common, "--weights", path), peer=True),
            Variant("PyTorch, order 2", "task_torch", ("2", *common, "--weights", path), peer=True),
        ]
        if steps > 1:
            variants = [variant for variant in variants if "operators" not in variant.name]
        groups = [tuple(variant.name for variant in variants if order in variant.name) for order in _ORDERS]
        cases.append(
            Case(f"{steps} inner step{'s' * (steps > 1)}", tuple(variants), prepare, close_within(groups, 2e-2))
        )
    return cases


EMBEDDING = Benchmark(
    name="embedding",
    title="Frozen ResNet18 embeddings",
    remark=(
        "uint8 images in memory to embeddings of length one. The rate is that of the median batch; what the first call "
        "takes beside its batch (export, check against eager mode) is the set-up. Paddle's default is one thread, and "
        "all others have one where the row does not say more. All embeddings are equal but for 0.2 % of the largest "
        "number."
    ),
    key="images_per_second",
    unit="images a second",
    better="more",
    against=(EAGER, TORCH),
    columns=(("setup_seconds", "set-up, s"), ("peak_gb", "peak memory, GB")),
    cases=_embedding,
    minutes=3.5,
)

TRAINING = Benchmark(
    name="training",
    title="Training steps",
    remark=(
        "Forward, backward and an Adam step on random images; the median step of each process. Paddle's default is one "
        "thread, and all others have one where the row does not say more. All start from the same weights; the losses "
        "of the first two steps agree within 1 %."
    ),
    key="images_per_second",
    unit="images a second",
    better="more",
    against=(EAGER, TORCH),
    cases=_training,
    minutes=4.3,
)

TASKS = Benchmark(
    name="tasks",
    title="MAML tasks",
    remark=(
        "Conv4 with 64 channels on 28 px, 5-way 1-shot, 25 queries: inner steps, and the gradient of the queries' "
        "loss. `order 1` and `order 2` are what training runs: oneDNN, and in the inner steps of order 2 operators of "
        "ppfsl's own that can be differentiated twice. The rows on operators leave oneDNN out; the "
        "twice-differentiable ones serve there for order 1 as well, so that one sees what they cost, and how much of "
        "that is batch norm. Losses and lengths of gradients agree within 2 % in all rows of an order, PyTorch's "
        "included."
    ),
    key="milliseconds",
    unit="milliseconds a task",
    better="less",
    against=("order 1", "PyTorch, order 1", "PyTorch, order 2"),
    cases=_tasks,
    minutes=2.8,
)
