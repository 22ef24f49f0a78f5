"""Benchmarks on cached embeddings: class means and fine-tuned heads."""

from benchmarks.compare import Benchmark, Case, Options, Variant
from benchmarks.plans.agreement import same_answers
from benchmarks.settings import EPISODES, HEAD

EASYFSL, EASYFSL_COSINE = "easyfsl's PrototypicalNetworks", "easyfsl's SimpleShot"
EASYFSL_DRAWN = "easyfsl's, drawn and loaded too"
LOOP, EASYFSL_FINETUNE = "one episode at a time in Paddle", "easyfsl's Finetune"
_QUERIES = EPISODES.way * EPISODES.query


def _file(options: Options, count: int) -> tuple[str, tuple[Variant, ...]]:
    path = str(options.work / f"episodes-{count}.npz")
    return path, (Variant("episodes", "episodes_draw", (path, "--episodes", str(count))),)


def _class_means(options: Options) -> list[Case]:
    count = 30 if options.quick else 1000
    path, prepare = _file(options, count)
    variants = (
        Variant("prototypes, Euclidean", "episodes_ppfsl", (path, "prototypical")),
        Variant(EASYFSL, "episodes_easyfsl", (path, "prototypical"), peer=True),
        Variant("class means, cosine", "episodes_ppfsl", (path, "class_mean")),
        Variant(EASYFSL_COSINE, "episodes_easyfsl", (path, "simple_shot"), peer=True),
        Variant("class means, episodes drawn too", "episodes_ppfsl", (path, "class_mean", "--draw")),
        Variant(EASYFSL_DRAWN, "episodes_easyfsl", (path, "prototypical", "--draw"), peer=True),
    )
    alike = (("prototypes, Euclidean", EASYFSL), ("class means, cosine", EASYFSL_COSINE))
    return [Case(f"{count} episodes", variants, prepare, same_answers(_QUERIES, alike, 1e-3))]


def _heads(options: Options) -> list[Case]:
    count, sample = (6, 2) if options.quick else (600, 20)
    path, prepare = _file(options, count)
    cases = []
    for entropy, title in (("none", "cross-entropy"), ("support", "cross-entropy and the support set's entropy")):
        variants = [
            Variant("ppfsl", "episodes_ppfsl", (path, "finetune", "--entropy", entropy)),
            Variant(LOOP, "heads_loop", (path, "--sample", str(sample), "--entropy", entropy)),
        ]
        if entropy == "none":
            variants.append(Variant(EASYFSL_FINETUNE, "episodes_easyfsl", (path, "finetune"), peer=True))
        check = same_answers(_QUERIES, (("ppfsl", LOOP),), 2e-3)
        cases.append(Case(title, tuple(variants), prepare, check))
    return cases


CLASS_MEANS = Benchmark(
    name="episodes",
    title="Class means on cached embeddings",
    remark=(
        f"{EPISODES.way}-way {EPISODES.shot}-shot episodes, {EPISODES.query} queries a class, embeddings of "
        f"{EPISODES.dim} numbers, from the episodes' indices to accuracies. ppfsl and easyfsl give the same answers "
        "in every episode, to Euclidean distances and to cosines; the rows that draw their own episodes do not have "
        "the same ones."
    ),
    key="episodes_per_second",
    unit="episodes a second",
    better="more",
    against=(EASYFSL, EASYFSL_DRAWN),
    columns=(("accuracy", "accuracy"), ("peak_gb", "peak memory, GB")),
    cases=_class_means,
)

HEADS = Benchmark(
    name="heads",
    title=f"Fine-tuned heads on cached embeddings, {HEAD.steps} steps",
    remark=(
        f"A cosine head of scale {HEAD.scale:g} that starts at the class means, Adam, {EPISODES.way}-way "
        f"{EPISODES.shot}-shot, embeddings of {EPISODES.dim} numbers. The Paddle loop is timed on some of the "
        "episodes, as the table says, and gives ppfsl's answers on these; easyfsl's head has no bias, and starts at "
        "means that are not normalised."
    ),
    key="episodes_per_second",
    unit="episodes a second",
    better="more",
    against=(LOOP, EASYFSL_FINETUNE),
    columns=(("timed", "episodes timed"), ("accuracy", "accuracy"), ("peak_gb", "peak memory, GB")),
    cases=_heads,
)
