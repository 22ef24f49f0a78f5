"""The fixed words of docs/results.md and of its Chinese twin: a value a language, no figure among them.

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
    """Title, link to the other language, what the figures mean."""
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
    """What has to come before a command that starts from another run's weights."""
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


ENGLISH = Phrases(
    suffix="",
    head="""# Results

[中文]({twin})

Written by `python tools/make_tables.py` from the result files below `results/`; every section gives the command that
makes it again. Accuracies are in percent, ± half the 95 % interval over episodes (1.96 x standard deviation /
sqrt(episodes)), in percentage points. Inductive and transductive rows never share a table: a transductive method's
answers depend on the other unlabelled queries of an episode. "Difference" is the mean difference in points to the
section's first row of the same task on the same episodes, with its paired 95 % interval; in tables of several runs, to
the run that the section names. "Reported" is what a paper has of the method, which its page names; an empty cell: it
has no such figure. Batch norm is in evaluation mode but where a row says otherwise.

What was chosen was chosen on validation classes, those of the section's own split but where a section says otherwise;
what was not is a paper's value or the default. The weights of trained networks are chosen on them too: of all epochs
the best by accuracy in the episodes that the configuration's `validation` names (5-way 1-shot unless it says
otherwise). A stage of training that is judged by another method than the one before it starts a new choice, and keeps
its own best epoch even where that is below the other stage's. Where a split has no validation classes, the last weights
are taken.

"Verification" asks of pairs of pictures, half of one class and half of two, whether they are of one class: yes from a
threshold on that is chosen on pairs of validation classes. Half the 95 % interval of its accuracy is 1.96 x the
square root of `p (1 - p) / n`, p the accuracy, n the number of pairs.

"Minutes" are of training and evaluation together, most of them on a machine that had other work at the time; where a
command evaluates another run's weights, of the evaluation alone, unless its section says otherwise. Rows "of one
thread" were made with `-o threads=1` or the environment's OMP_NUM_THREADS=1, which the commands leave out.
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
    reference="Differences are to the first row of {title}.",
    also=" or ",
    run="; {stages}; seed {seed}; PaddlePaddle {paddle}; {query} queries a class; {minutes:g} minutes on {machine}",
    needs="; after the command of {section}",
    no_training="no training",
    then=", then ",
    batch_norm=" (batch norm: {mode})",
    evaluations=("way", "shot", "classes", "adaptation", "accuracy, %", "difference, points", "episodes"),
    spread="seeds: mean (sd)",
    seeds="Seeds {seeds}: mean and standard deviation over runs that differ in `seed` alone, which draws the weights "
    "that are new, the batches of training and the episodes by which training judges itself; all are evaluated on the "
    "same episodes.",
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
    page="The method and its paper: [{page}](algorithms/{page}.md).",
    others={"split": "; split `{}`", "pretrained": "; pretrained weights: {}", "image_size": "; {} px"},
    stop=".",
)

CHINESE = Phrases(
    suffix="_zh",
    head="""# 结果

[English]({twin})

本页由 `python tools/make_tables.py` 根据 `results/` 下的结果文件生成；每一节都给出重新得到该节的命令。
准确率以百分数表示，± 之后是各任务上 95 % 置信区间宽度的一半（1.96 x 标准差 / 任务数的平方根），单位为百分点。
归纳式（inductive）与直推式（transductive）的行从不放进同一张表：直推式方法的答案受同一任务里其他无标签查询的影响。
“成对差异”是与本节里 way、shot 相同的第一行之间，在同样的任务上准确率之差的平均值（百分点），附成对的 95 % 置信区间；
在多次运行的表里，则是与该节所说的那次运行相比。“论文报告”是论文对该方法报告的数字，论文见该方法的页面；空格表示论文没有这个数字。除某行另有说明外，批归一化处于评估模式。
adaptation 和类别名沿用结果文件里的名字。

凡是选择，都是在验证类上作出的；除某一节另有说明外，就是该节所用划分的验证类。没有经过选择的，是论文里的值或默认值。
训练所得的权重也是在验证类上选的：取所有轮次中，在配置的 `validation` 所说的任务上
（除另有说明外为 5-way 1-shot）准确率最高的。
一个训练阶段若与前一阶段用不同的方法评分，就重新选择，保留它自己最好的一轮，即使低于前一阶段。划分没有验证类时，取最后的权重。

“验证”（verification）就图片对提问：两张图片是否同类，一半的图片对同类，一半不同类；相似度达到阈值就回答“同类”，阈值在验证类的图片对上选定。
其正确率的 95 % 置信区间宽度的一半是 `p (1 - p) / n` 的平方根的 1.96 倍，p 为正确率，n 为图片对数。

“分钟”包括训练和评估，大多是在机器同时有其他工作时测得的；如果一条命令评估的是另一次运行的权重，则只是评估的时间，除非该节另有说明。
“单线程”的行是用 `-o threads=1` 或环境变量 OMP_NUM_THREADS=1 得到的，命令里省去了。
""",
    subject="{dataset}，划分 `{split}`；{backbone}，{image_size} px；预训练权重：{weights}",
    no_weights="无（随机初始化）",
    finished="；嵌入：{}",
    finish={"mirror": "含镜像", "power": "{} 次幂", "center": "按基类居中", "whitening": "按基类白化（收缩 {:g}）"},
    comma="、",
    made="种子 {seed}；PaddlePaddle {paddle}；每种任务 {episodes} 个，每类 {query} 个查询；运行于 {machine}。",
    machines="各条命令后所写的机器",
    machine="；{}",
    reference="差异是与 {title} 的第一行相比。",
    also=" 或 ",
    run="；{stages}；种子 {seed}；PaddlePaddle {paddle}；每类 {query} 个查询；{minutes:g} 分钟，{machine}",
    needs="；先运行 {section} 一节的命令",
    no_training="不训练",
    then="，然后 ",
    batch_norm="（批归一化：{mode}）",
    evaluations=("way", "shot", "类别", "adaptation", "准确率（%）", "成对差异（百分点）", "任务数"),
    spread="各种子：平均（标准差）",
    seeds="种子 {seeds}：只有 `seed` 不同的各次运行的平均值与标准差；"
    "它决定新加权重的初值、训练的批次，以及训练用来评判自己的任务；所有运行在同样的任务上评估。",
    support_set="一个支持集，{way}-way {shot}-shot，{adaptation}：{correct} / {total} 正确",
    classes=("标签", "类别", "正确 / 总数", "准确率"),
    methods=("方法", "adaptation"),
    task=("成对差异", "论文报告"),
    minutes="分钟",
    pairs="图片对的验证：",
    verification=("方法", "相似度", "图片对数", "ROC 曲线下面积", "等错误率（%）", "阈值下的正确率（%）"),
    command="{title}：`{command}`（{stages}{others}）",
    page="方法与论文：[{page}](algorithms/{page}_zh.md)。",
    others={"split": "；划分 `{}`", "pretrained": "；预训练权重：{}", "image_size": "；{} px"},
    stop="。",
    values={
        "base": "基类",
        "validation": "验证类",
        "novel": "新类",
        "inductive": "归纳式",
        "transductive": "直推式",
        "support statistics": "支持集的统计量",
        "running": "滑动平均的统计量",
        "cosine similarity": "余弦相似度",
        "probability of one class": "同类的概率",
    },
)
