"""The fixed words of docs/results.md and of its Chinese twin: a value a language, no accuracy among them.

Braces in a phrase are filled by `str.format`; both languages fill the same ones, which a test checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Phrases:
    """What the page says in one language beside what result files, `about.yaml` and comparisons say."""

    suffix: str
    """At the end of the page's name and of the keys that say something in this language: `title_zh`."""
    head: str
    """Title, link to the other language, what the page is."""
    overview_title: str
    overview_head: str
    """What the figures of the first table are."""
    overview: tuple[str, ...]
    """Its columns before those of its tasks."""
    contents: str
    """Title above the links to the sections."""
    reading_title: str
    reading: str
    """What words and figures mean."""
    subject: str
    """What a section is about: data, network, weights."""
    no_weights: str
    finished: str
    """How embeddings were finished, the parts of `finish` joined by `comma`."""
    finish: Mapping[str, str]
    """What is said of each key of `embedding`, its value in the braces."""
    comma: str
    made: str
    """How the runs of a comparison were made: seeds, versions, episodes, queries, machines."""
    machines: str
    """In place of the machine, where there are several."""
    machine: str
    """The machine of one run, where there are several."""
    reference: str
    """What the differences of a comparison are to."""
    also: str
    """Between two values of which some runs have one and some the other."""
    run: str
    """How one run was made: stages, seed, version, queries, minutes, machine."""
    needs: str
    """What has to come before a command that starts from another run's weights: the command of a section."""
    needs_row: str
    """The same, where that section has several runs."""
    needs_here: str
    """The same, of a run in the same section."""
    no_training: str
    then: str
    """Between two stages."""
    batch_norm: str
    """After an adaptation in an unusual mode of batch norm."""
    evaluations: tuple[str, ...]
    """Columns of a run's evaluations."""
    spread: str
    """Column of mean and standard deviation over runs with several seeds."""
    seeds: str
    """What that column is, below the table."""
    spreads: str
    """The same, above the table of a comparison's spreads."""
    spread_columns: tuple[str, ...]
    support_set: str
    classes: tuple[str, ...]
    """Columns of the fixed support set, class by class."""
    methods: tuple[str, ...]
    """Columns of a comparison before those of its tasks."""
    task: tuple[str, ...]
    """Columns of a task after its accuracy."""
    minutes: str
    pairs: str
    verification: tuple[str, ...]
    """Columns of the verification of pairs."""
    command: str
    """One run of a comparison, its command, and what it trained."""
    command_again: str
    """A run that repeats one of these with another seed."""
    commands: str
    """Above the commands of a comparison."""
    page: str
    """In a section of one run, where its method is explained."""
    others: Mapping[str, str]
    """What is said of a run whose split, pretrained weights or size of images are others than the first one's."""
    stop: str
    """At the end of a line about data or a run."""
    values: Mapping[str, str] = field(default_factory=dict)
    """What a value of a result file is called; as it stands there, where it is not among these."""

    def value(self, name: str) -> str:
        """What a value of a result file is called in this language."""
        return self.values.get(name, name)
