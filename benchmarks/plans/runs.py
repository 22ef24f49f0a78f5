"""Benchmarks of whole runs: the article's protocol, photographs, start-up, several processes."""

import subprocess
import sys

from benchmarks.compare import ROOT, Benchmark, Case, Found, Options, Variant, program_environment
from benchmarks.plans.agreement import same_answers, same_photographs
from benchmarks.summary import markdown, number

ARTICLE = "the article's loop"
LOADER = "Paddle's Flowers, DataLoader"
_MOBILENET = ("backbone.name=mobilenet_v1", "backbone.scale=0.75", "backbone.normalization=signed")


def _article(options: Options) -> list[Case] | str:
    if options.data is None:
        return "The article's protocol needs the photographs of Flowers102: set PPFSL_DATA."
    work = (str(options.data), str(options.work))
    size = "32" if options.quick else "224"
    prepare = (Variant("photographs", "flowers_prepare", (*work, "--sizes", size), threads=None),)
    networks: list[tuple[str, tuple[str, ...], str | None]] = [("the article's ResNet18", (), options.resnet18_weights)]
    if options.mobilenet_weights is not None:
        networks.append(("MobileNetV1 0.75", _MOBILENET, options.mobilenet_weights))
    cases = []
    for title, settings, weights in networks:
        given = [*settings, f"backbone.pretrained={weights or 'none'}"]
        if options.quick:
            given += ["data.image_size=32", "pretrain.0.steps_per_epoch=2", "evaluation.episodes=2"]
        further = [part for setting in given for part in ("--option", setting)]
        counted = ("--episodes", "2" if options.quick else "100")
        loop = (*work, *counted, "--steps", "1", *further)
        caches = {"new": "ppfsl, from the archive", **({"kept": "ppfsl, again"} if settings else {})}
        variants = [
            Variant(name, "article_ppfsl", (*work, cache, *counted, *further), threads=None)
            for cache, name in caches.items()
        ]
        accuracy = ("--accuracy",) if weights or options.quick else ()
        variants.append(Variant(ARTICLE, "article_loop", loop, threads=None, first=accuracy))
        note = "" if weights else " (random weights: only the times mean anything)"
        cases.append(Case(title + note, tuple(variants), prepare, rounds=1 if settings else None))
    return cases


def _photographs(options: Options) -> list[Case] | str:
    if options.data is None:
        return "The epoch of photographs needs Flowers102: set PPFSL_DATA."
    work = (str(options.data), str(options.work))
    some = ("--batches", "6") if options.quick else ()
    sample = ("--batches", "6" if options.quick else "48")
    variants = (
        Variant("ppfsl", "photographs_ppfsl", (*work, *some), first=("--decode",)),
        Variant(LOADER, "photographs_paddle", (work[1], "--workers", "0", *sample)),
        Variant(f"{LOADER}, 2 workers", "photographs_paddle", (work[1], "--workers", "2", *sample)),
    )
    return [Case("84 px", variants, (Variant("photographs", "flowers_prepare", work, threads=None),), same_photographs)]


def _startup(options: Options) -> list[Case]:
    path = str(options.work / "first-answer.safetensors")
    kept, photograph = str(options.work / "classifier.safetensors"), str(options.work / "first-answer.png")
    answer = ("-m", "benchmarks.programs.first_answer", path)

    def row(name: str, *command: str) -> Variant:
        return Variant(name, "startup", command)

    imports = {"numpy": "numpy", "pydantic": "ppfsl.config", "Paddle": "paddle", "all of ppfsl": "ppfsl.pipeline"}
    variants = [
        row("Python alone", "-c", "print(1)"),
        *(row(f"tools/{tool}.py --help", f"tools/{tool}.py", "--help") for tool in ("train", "predict")),
        *(row(f"import of {name}", "-c", f"import {module}; print(1)") for name, module in imports.items()),
        row("ResNet18 loaded from a checkpoint", *answer, "loaded"),
        row("and a photograph of 84 px embedded eagerly", *answer, "eager"),
        row("or by the engine, exported for it", *answer, "engine"),
        row("tools/predict.py on a photograph", "tools/predict.py", "--model", kept, photograph, "--csv"),
    ]
    prepare = (Variant("checkpoint", "first_answer", (path, "save")),)
    return [Case("to the first output", tuple(variants), prepare)]


def slowest_imports(stderr: str, count: int) -> list[tuple[str, float]]:
    """The packages that took most of an import's own time, and their milliseconds, from `-X importtime`'s report."""
    own: dict[str, float] = {}
    for line in stderr.splitlines():
        fields = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and len(fields) == 3 and fields[0].strip().isdigit():
            package = fields[2].strip().split(".")[0]
            own[package] = own.get(package, 0.0) + int(fields[0]) / 1000
    return sorted(own.items(), key=lambda item: -item[1])[:count]


def _startup_split(options: Options, found: Found) -> list[str]:
    notes = []
    for title, command in (
        ("tools/train.py --help", ["tools/train.py", "--help"]),
        ("import ppfsl.pipeline", ["-c", "import ppfsl.pipeline"]),
    ):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *command],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=program_environment(1),
            check=False,
        )
        rows = [[name, number(milliseconds)] for name, milliseconds in slowest_imports(done.stderr, 8)]
        notes.append(f"Where `{title}` spends its imports (`-X importtime`, which itself takes time):\n")
        notes.append(markdown(["package", "own time, ms"], rows))
    return notes


def _processes(options: Options) -> list[Case]:
    cases = []
    for work, title in (
        ("pretraining", "1000 images of pretraining, ResNet18, 84 px, batches of 64"),
        ("evaluation", "1000 episodes of fine-tuned heads"),
    ):
        common = ("--cache", str(options.work / "cache"), *(["--quick"] if options.quick else []))
        variants = (
            Variant("1 process", "distributed", (work, "1", *common)),
            Variant(f"{options.nproc} processes", "distributed", (work, str(options.nproc), *common), may_fail=True),
        )
        agree = same_answers(4 * 10, (("1 process", f"{options.nproc} processes"),), 0.0)
        cases.append(Case(title, variants, agree=agree if work == "evaluation" else None))
    return cases


PROTOCOL = Benchmark(
    name="article",
    title="The article's protocol on Flowers102",
    remark=(
        "configs/flowers102/article.yaml from the command to the report, against the article's loop written plainly "
        "from its description, in Paddle's eager mode; either with the threads it takes where nobody says. The loop is "
        "timed on a sample of its steps and extrapolated: hours otherwise. MobileNetV1 runs for one round, for its "
        "accuracies. Accuracies: of the fine-tuned head on the first 100 episodes, the "
        "same for both, and on the one support set; the loop's come from features that are computed once, which "
        "changes nothing in them, its projection starts and its triples are drawn otherwise."
    ),
    key="seconds",
    unit="seconds",
    better="less",
    against=(ARTICLE,),
    columns=(
        ("accuracy", "accuracy"),
        ("support_set", "right on the support set"),
        ("timed", "timed"),
        ("peak_gb", "peak memory, GB"),
    ),
    cases=_article,
    minutes=8.0,
)

PHOTOGRAPHS = Benchmark(
    name="photographs",
    title="An epoch of augmented photographs",
    remark=(
        "6149 photographs of Flowers102 as batches of 64 at 84 px: random window, flip, jitter; no network. The "
        "DataLoader is timed on a sample, as the table says, after batches that fill its queues; it decodes the "
        "photographs of 192 px each time. ppfsl reads its table of 96 px, decoded once in the seconds that the table "
        "states. Either works ahead: ppfsl in a thread, the DataLoader in processes where it has any. Means and "
        "deviations of the pixels agree within 0.05 of 1: ppfsl's windows lie in the square middle of a photograph."
    ),
    key="seconds_per_epoch",
    unit="seconds an epoch",
    better="less",
    against=(LOADER, f"{LOADER}, 2 workers"),
    columns=(("timed", "photographs timed"), ("decoding", "decoding once, s"), ("peak_gb", "peak memory, GB")),
    cases=_photographs,
    minutes=2.5,
)

STARTUP = Benchmark(
    name="startup",
    title="Start-up",
    remark=(
        "Seconds until a command writes its first character; from the second round on, files are in memory. The last "
        "row asks a kept classifier about a photograph; those before it are what it needs at least."
    ),
    key="seconds",
    unit="seconds",
    better="less",
    against=(),
    columns=(),
    cases=_startup,
    minutes=1.4,
    after=_startup_split,
)

PROCESSES = Benchmark(
    name="processes",
    title="Several processes against one",
    remark=(
        "tools/train.py alone, and under paddle.distributed.launch with gloo, a thread each. Pretraining: the images a "
        "second that the run itself logs, its first epoch left out. Evaluation: the seconds that its result states, "
        "with the same answers in one process as in several. The whole command has more to do: imports, drawing the "
        "blossoms, validation, the report."
    ),
    key="seconds",
    unit="seconds",
    better="less",
    against=("1 process",),
    columns=(("whole_command", "whole command, s"),),
    cases=_processes,
    minutes=6.0,
)
