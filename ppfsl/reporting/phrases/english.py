"""The fixed words of docs/results.md."""

from ppfsl.reporting.phrases.phrases import Phrases

ENGLISH = Phrases(
    suffix="",
    head="""# Results

[中文]({twin})

What each method reaches, and the command that makes each row again. [What buys what](analysis.md) says in plain words
what follows, with the curves. Written by `python tools/make_tables.py` from the result files below `results/`.
""",
    overview_title="At a glance",
    overview_head="""\
Accuracy on novel classes, in percent, ± half the 95 % interval. "Reported" is the paper's figure, in brackets ours
minus it. A line links to its section, which may have better rows. Inductive lines are for pictures that come one at a
time; transductive ones look at all queries of an episode together, among which every class is as frequent as the
others. Lines of different splits were asked about different classes and cannot be compared. [How to read the
tables](#how-to-read-the-tables) explains the words and which differences to trust; for other numbers of shots and
classes see [the curves](analysis.md#shots-and-ways).
""",
    overview=("what", "data and split"),
    contents="Contents",
    reading_title="How to read the tables",
    reading="""\
* **5-way 1-shot**: an episode draws 5 classes and of each 1 labelled picture, the support set; it asks about
  other pictures of the same classes, the queries, and the accuracy is averaged over episodes.
* **Base, validation and novel classes**: embedders are trained on base classes, choices are made on validation classes,
  and what these tables show was asked of novel ones, but where a section says otherwise. Of the 102 flowers, the split
  `metadataset` has 71, 15 and 16, `fsl_ssl` 51, 26 and 25. Omniglot's `vinyals` has 1,028, 172 and 423 characters, each
  in four rotations that count as classes.
* **Adaptation**: how an embedder is used on new classes. [class_mean](algorithms/class_mean.md) takes the class whose
  mean embedding is closest; [a fine-tuned head](algorithms/finetune.md) is a softmax classifier that starts from these
  means, "entropy over support" and "entropy over queries" the same with a term that asks for certain predictions;
  [soft_kmeans](algorithms/soft_kmeans.md) moves the means among the queries. [The methods](methods.md) have the others.
* **Finished** embeddings are averaged with the mirror image's, taken to a power, centred and whitened by the base
  classes, [without any training](pretrain_and_finetune.md#finishing-the-embedder).
* **Inductive** answers look at one query at a time; **transductive** ones depend on the other unlabelled queries of the
  episode. The two never share a table. Batch norm is in evaluation mode but where a row says otherwise.

Accuracies are in percent, ± half the 95 % interval over episodes (1.96 x standard deviation / sqrt(episodes)), in
percentage points. "Difference" is the mean difference in points to the section's first row of the same task on the
same episodes, with its paired 95 % interval; in tables of several runs, to the run that the section names. "Reported"
is what a paper has of the method, which its page names, in brackets ours minus that; an empty cell: it has no such
figure.

Intervals are over episodes alone. A training's seed moves figures, too: three runs of the fine-tuning that differ in
nothing else are up to 0.6 points apart at one shot and 0.3 at five. More runs may lie further apart, and so may
networks trained from scratch on flowers, of which each has one run. Between networks that were trained separately, a
difference of a point or less may be their seeds', however narrow its interval. Rows without a spread over seeds are of
one run.

What was chosen was chosen on validation classes, those of the section's own split but where a section says otherwise;
what was not is a paper's value, the default, or was fixed beforehand, as sizes of pictures and lengths of training
were. Heads fine-tuned on `fsl_ssl` have settings from the validation classes of `metadataset`, two of which are novel
there. The weights of trained networks are chosen on them too: of all epochs
the best by accuracy in the episodes that the configuration's `validation` names (5-way 1-shot unless it says
otherwise). A stage of training that is judged by another method than the one before it starts a new choice, and keeps
its own best epoch even where that is below the other stage's. Where a split has no validation classes, the last weights
are taken.

"Verification" asks of pairs of pictures, half of one class and half of two, whether they are of one class: yes from a
threshold on that is chosen on pairs of validation classes. Half the 95 % interval of its accuracy is 1.96 x the
square root of `p (1 - p) / n`, p the accuracy, n the number of pairs.

"Minutes" are of training and evaluation together, most of them on a machine that had other work at the time, so that
the same work may take half as long or twice; where a command evaluates another run's weights, of the evaluation alone,
unless its section says otherwise. Rows "of one thread" were made with `-o threads=1` or the environment's
OMP_NUM_THREADS=1, which the commands leave out.
""",
    subject="{dataset}, split `{split}`; {backbone} at {image_size} px; pretrained weights: {weights}",
    no_weights="none (random initialisation)",
    finished="; embeddings: {}",
    finish={
        **{"mirror": "with mirror images", "power": "to the power of {}"},
        **{"center": "centred by {} classes", "whitening": "whitened by base classes (shrinkage {:g})"},
    },
    comma=", ",
    made="Seed {seed}; PaddlePaddle {paddle}; {episodes} episodes of each task, {query} queries a class; made on "
    "{machine}.",
    machines="the machines that the commands' lines name",
    machine="; {}",
    reference=" Differences are to the first row of “{title}”.",
    also=" or ",
    run="; {stages}; seed {seed}; PaddlePaddle {paddle}; {query} queries a class; {minutes:g} minutes on {machine}",
    needs="; after the command of {section}",
    needs_row="; after the command of “{row}” in {section}",
    needs_here="; after the command of “{row}”",
    no_training="no training",
    then=", then ",
    batch_norm=" (batch norm: {mode})",
    evaluations=("way", "shot", "classes", "adaptation", "accuracy, %", "difference, points", "episodes"),
    spread="seeds: mean (sd)",
    seeds="Seeds {seeds}: mean and standard deviation over runs whose configurations differ in `seed` alone, which "
    "draws the weights that are new, the batches of training and the episodes by which training judges itself; all are "
    "evaluated on the same episodes.",
    spreads="Runs whose configurations differ in `seed` alone, on the same episodes, mean and standard deviation:",
    spread_columns=("method", "task", "adaptation", "seeds", "mean (sd)"),
    support_set="One support set, {way}-way {shot}-shot, {adaptation}: {correct} / {total} right",
    classes=("label", "class", "correct / total", "accuracy"),
    methods=("method", "adaptation"),
    task=("difference", "reported"),
    minutes="minutes",
    pairs="Verification of pairs:",
    verification=(
        *("method", "similarity", "pairs", "area under ROC"),
        *("equal error rate, %", "accuracy at the threshold, %"),
    ),
    command="{title}: `{command}` ({stages}{others})",
    command_again="{title}, another seed: `{command}` ({machine})",
    commands="The commands, and what each run trained",
    page="The method and its paper: [{page}](algorithms/{page}.md).",
    others={"split": "; split `{}`", "pretrained": "; pretrained weights: {}", "image_size": "; {} px"},
    stop=".",
)
