"""Benchmarks of networks: embeddings, training steps, MAML tasks."""

from benchmarks.compare import Benchmark, Case, Options, Variant
from benchmarks.plans.agreement import close
from benchmarks.settings import EMBEDDED, NETWORKS, TRAINED

EAGER, TORCH = "Paddle eager, default threads", "PyTorch eager"


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
        eager = batches(2 if NETWORKS[network].pixels < 200 else 1)
        variants = (
            Variant("ppfsl's engine", "embed_paddle", (network, "engine", *batches(12))),
            Variant(EAGER, "embed_paddle", (network, "eager", *eager), threads=None),
            Variant(TORCH, "embed_torch", (network, path, *batches(8)), peer=True),
        )
        cases.append(Case(_title(network), variants, prepare if options.peers else (), close(2e-3)))
    return cases


def _training(options: Options) -> list[Case]:
    steps = ("--steps", "1" if options.quick else "5")
    cases = []
    for network in TRAINED[:1] if options.quick else TRAINED:
        path, prepare = _weights(network, options)
        variants = (
            Variant(EAGER, "step_paddle", (network, "plain", *steps), threads=None),
            Variant("with freed memory kept", "step_paddle", (network, "kept", *steps)),
            Variant("with oneDNN as well", "step_paddle", (network, "onednn", *steps)),
            Variant(TORCH, "step_torch", (network, path, *steps), peer=True),
        )
        cases.append(Case(_title(network), variants, prepare if options.peers else (), close(1e-2)))
    return cases


def _tasks(options: Options) -> list[Case]:
    cases = []
    for steps in (1,) if options.quick else (1, 3):
        common = (str(steps), "--tasks", "1" if options.quick else "10")
        variants = (
            Variant("order 1", "task_paddle", ("1", *common)),
            Variant("order 1, Paddle's operators", "task_paddle", ("1", *common, "--plain")),
            Variant("order 1, twice differentiable operators", "task_paddle", ("1", *common, "--plain", "--twice")),
            Variant(
                "order 1, the same with Paddle's batch norm",
                "task_paddle",
                ("1", *common, "--plain", "--twice", "--native"),
            ),
            Variant("order 2", "task_paddle", ("2", *common)),
            Variant("order 2, Paddle's batch norm", "task_paddle", ("2", *common, "--native")),
            Variant("PyTorch, order 1", "task_torch", ("1", *common), peer=True),
            Variant("PyTorch, order 2", "task_torch", ("2", *common), peer=True),
        )
        cases.append(Case(f"{steps} inner step{'s' * (steps > 1)}", variants, agree=close(2e-2)))
    return cases


EMBEDDING = Benchmark(
    name="embedding",
    title="Frozen ResNet18 embeddings",
    remark=(
        "uint8 images in memory to embeddings of length one. The rate is that of batches once the network runs: two "
        "calls of different length, subtracted; what a call takes beside that (export, check against eager mode) is "
        "the set-up. All embeddings are equal but for 0.2 % of the largest number."
    ),
    key="images_per_second",
    unit="images a second",
    better="more",
    against=(EAGER, TORCH),
    columns=(("setup_seconds", "set-up, s"), ("peak_gb", "peak memory, GB")),
    cases=_embedding,
)

TRAINING = Benchmark(
    name="training",
    title="Training steps",
    remark=(
        "Forward, backward and an Adam step on random images; the median step of each process. All start from the same "
        "weights; the losses of the first two steps agree within 1 %."
    ),
    key="images_per_second",
    unit="images a second",
    better="more",
    against=(EAGER, TORCH),
    cases=_training,
)

TASKS = Benchmark(
    name="tasks",
    title="MAML tasks",
    remark=(
        "Conv4 with 64 channels on 28 px, 5-way 1-shot, 25 queries: inner steps, and the gradient of the queries' "
        "loss. The first losses of all rows of ppfsl agree within 2 %; PyTorch's network has weights of its own."
    ),
    key="milliseconds",
    unit="milliseconds a task",
    better="less",
    against=("order 1", "PyTorch, order 1", "PyTorch, order 2"),
    cases=_tasks,
)
