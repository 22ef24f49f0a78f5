"""Benchmarks on cached embeddings: class means and fine-tuned heads."""

from benchmarks.compare import Benchmark, Case, Options, Variant
from benchmarks.plans.agreement import same_answers
from benchmarks.settings import EPISODES, HEAD

PPFSL, EASYFSL = "ppfsl", "easyfsl"
LOOP, EASYFSL_FINETUNE = "one episode at a time in Paddle", "easyfsl's Finetune"
_QUERIES = EPISODES.way * EPISODES.query


def _file(options: Options, count: int) -> tuple[str, tuple[Variant, ...]]:
    path = str(options.work / f"episodes-{count}.npz")
    return path, (Variant("episodes", "episodes_draw", (path, "--episodes", str(count))),)


def _class_means(options: Options) -> list[Case]:
    count = 30 if options.quick else 1000
    path, prepare = _file(options, count)
    repeats = ("--repeats", "1" if options.quick else "3")  # since 1000 episodes take but a moment

    def case(title: str, ours: str, theirs: str, *further: str) -> Case:
        variants = (
            Variant(PPFSL, "episodes_ppfsl", (path, ours, *repeats, *further)),
            Variant(EASYFSL, "episodes_easyfsl", (path, theirs, *further), peer=True),
        )
        check = None if further else same_answers(_QUERIES, ((PPFSL, EASYFSL),), 1e-3)
        return Case(title, variants, prepare, check)

    return [
        case("class means by cosine", "class_mean", "simple_shot"),
        case("prototypes by Euclidean distance", "prototypical", "prototypical"),
        case("the same, episodes drawn too", "prototypical", "prototypical", "--draw"),
    ]


def _heads(options: Options) -> list[Case]:
    full, sample = (6, 2) if options.quick else (600, 20)
    cases = []
    for entropy, title, count in (
        ("none", "cross-entropy", full),
        ("support", "cross-entropy and the support set's entropy", full // 3),
    ):
        path, prepare = _file(options, count)
        variants = [
            Variant(PPFSL, "episodes_ppfsl", (path, "finetune", "--entropy", entropy)),
            Variant(LOOP, "heads_loop", (path, "--sample", str(sample), "--entropy", entropy)),
        ]
        if entropy == "none":
            variants.append(
                Variant(
                    EASYFSL_FINETUNE, "episodes_easyfsl", (path, "finetune", "--sample", str(5 * sample)), peer=True
                )
            )
        check = same_answers(_QUERIES, ((PPFSL, LOOP),), 2e-3)
        cases.append(Case(title, tuple(variants), prepare, check))
    return cases


CLASS_MEANS = Benchmark(
    name="episodes",
    title="Class means on cached embeddings",
    remark=(
        f"1000 episodes, {EPISODES.way}-way {EPISODES.shot}-shot, {EPISODES.query} queries a class, embeddings of "
        f"{EPISODES.dim} numbers in memory, from the episodes' indices to accuracies. easyfsl's SimpleShot and "
        "PrototypicalNetworks run in a plain loop over the episodes, and give ppfsl's answers in every one; in the "
        "last rows easyfsl's sampler, loader and `evaluate` draw the episodes, and ppfsl's sampler its own."
    ),
    key="episodes_per_second",
    unit="episodes a second",
    better="more",
    against=(EASYFSL,),
    columns=(("accuracy", "accuracy"), ("peak_gb", "peak memory, GB")),
    cases=_class_means,
    minutes=2.3,
)

HEADS = Benchmark(
    name="heads",
    title=f"Fine-tuned heads on cached embeddings, {HEAD.steps} steps",
    remark=(
        f"A cosine head of scale {HEAD.scale:g} that starts at the class means, Adam, {EPISODES.way}-way "
        f"{EPISODES.shot}-shot, embeddings of {EPISODES.dim} numbers. The others are timed on some of ppfsl's "
        "episodes, as the table says, and the Paddle loop gives ppfsl's answers on these. easyfsl's head has "
        "no bias, and starts at means that are not normalised."
    ),
    key="episodes_per_second",
    unit="episodes a second",
    better="more",
    against=(LOOP, EASYFSL_FINETUNE),
    columns=(("timed", "episodes timed"), ("accuracy", "accuracy"), ("peak_gb", "peak memory, GB")),
    cases=_heads,
    minutes=3.3,
)
