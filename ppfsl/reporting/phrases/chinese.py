"""The fixed words of docs/results_zh.md."""

from ppfsl.reporting.phrases.phrases import Phrases

CHINESE = Phrases(
    suffix="_zh",
    head="""# 结果

[English]({twin})

各方法达到的准确率，以及重新得到每一行的命令。由此能得出什么结论，[各部分带来多少](analysis_zh.md)一页用通俗的话讲述，并附曲线。
本页由 `python tools/make_tables.py` 根据 `results/` 下的结果文件生成。
""",
    overview_title="概览",
    overview_head="""\
新类上的准确率（%），± 后为 95 % 置信区间宽度的一半。“论文报告”是论文的数字，括号内是我们的数字减去它的差。
每一行链接到它所在的一节，那里可能有更好的行。归纳式的行适用于图片一张一张来的情形；
直推式的行把一个任务的查询放在一起看，其中各类出现得一样多。不同划分的行问的是不同的类别，不能互相比较。
[怎样读这些表](#怎样读这些表)解释用词，以及哪些差异可信；其他样本数与类别数见[曲线](analysis_zh.md#样本数与类别数)。
""",
    overview=("内容", "数据与划分"),
    contents="目录",
    reading_title="怎样读这些表",
    reading="""\
* **5-way 1-shot**：一个任务取 5 个类别，每类 1 张带标签的图片，即支持集；再问同样类别的其他图片，即查询。
  准确率是各任务的平均值。
* **基类、验证类、新类**：嵌入网络在基类上训练，选择在验证类上作出，表中的数字除另有说明外都是在新类上得到的。
  102 种花中，划分 `metadataset` 依次有 71、15、16 个类别，`fsl_ssl` 有 51、26、25 个；
  Omniglot 的 `vinyals` 有 1,028、172、423 个字符，
  每个字符的四个旋转方向各算一个类别。
* **adaptation（适应方式）**：嵌入网络怎样用于新类。[class_mean](algorithms/class_mean_zh.md) 取平均嵌入最近的类别；
  [微调分类头](algorithms/finetune_zh.md)是从这些均值出发的 softmax 分类器，
  “entropy over support”和“entropy over queries”
  则另加一项，要求支持集或查询上的预测更确定；[soft_kmeans](algorithms/soft_kmeans_zh.md) 让均值在查询之间移动。
  其余见[各方法](methods_zh.md)。
* **后处理**过的嵌入：与镜像图片的嵌入取平均、取幂、按基类中心化并白化，
  [不需要训练](pretrain_and_finetune_zh.md#嵌入网络的后处理)。
* **归纳式**（inductive）每次只看一个查询；**直推式**（transductive）的答案受同一任务里其他无标签查询的影响。
  两者从不放进同一张表。
  除某行另有说明外，批归一化处于评估模式。

准确率以百分数表示，± 之后是各任务上 95 % 置信区间宽度的一半（1.96 x 标准差 / 任务数的平方根），单位为百分点。
“配对差异”是与本节里 way、shot 相同的第一行之间，在同样的任务上准确率之差的平均值（百分点），附配对的 95 % 置信区间；
在多次运行的表里，则是与该节所说的那次运行相比。“论文报告”是论文对该方法报告的数字，论文见该方法的页面，括号内是我们的数字减去它的差；空格表示论文没有这个数字。

置信区间只反映任务的不同。训练的种子也会改变数字：
只有种子不同的三次微调，单样本时最多相差 0.6 个百分点，五样本时最多相差 0.3 个。
再多训练几次可能相差更大；在花卉上从头训练的网络各只有一次运行，也可能相差更大。
分别训练的两个网络之间，一个百分点以内的差异可能只是种子造成的，无论区间多窄。除列出不同种子离散程度的行以外，每一行都只是一次运行。

凡是选择，都是在验证类上作出的；除某一节另有说明外，就是该节所用划分的验证类。没有经过选择的，是论文里的值、默认值，或事先定下的（如图片尺寸、训练长短）。
`fsl_ssl` 上的微调分类头，设置选自 `metadataset` 的验证类，其中两个在那里属于新类。
训练所得的权重也是在验证类上选的：取所有轮次中，在配置的 `validation` 所说的任务上
（除另有说明外为 5-way 1-shot）准确率最高的。
一个训练阶段若与前一阶段用不同的方法评分，就重新选择，保留它自己最好的一轮，即使低于前一阶段。划分没有验证类时，取最后的权重。

“验证”（verification）就图片对提问：两张图片是否同类，一半的图片对同类，一半不同类；相似度达到阈值就回答“同类”，阈值在验证类的图片对上选定。
其正确率的 95 % 置信区间宽度的一半是 `p (1 - p) / n` 的平方根的 1.96 倍，p 为正确率，n 为图片对数。

“分钟”包括训练和评估，大多是在机器同时有其他工作时测得的，所以同样的工作可能只用一半的时间，也可能用两倍；
如果一条命令评估的是另一次运行的权重，则只是评估的时间，除非该节另有说明。
“单线程”的行是用 `-o threads=1` 或环境变量 OMP_NUM_THREADS=1 得到的，命令里省去了。
""",
    subject="{dataset}，划分 `{split}`；{backbone}，{image_size} px；预训练权重：{weights}",
    no_weights="无（随机初始化）",
    finished="；嵌入：{}",
    finish={"mirror": "含镜像", "power": "{} 次幂", "center": "按基类中心化", "whitening": "按基类白化（收缩 {:g}）"},
    comma="、",
    made="种子 {seed}；PaddlePaddle {paddle}；每种任务 {episodes} 个，每类 {query} 个查询；机器：{machine}。",
    machines="见各条命令之后",
    machine="；{}",
    reference="差异是与“{title}”的第一行相比。",
    also=" 或 ",
    run="；{stages}；种子 {seed}；PaddlePaddle {paddle}；每类 {query} 个查询；{minutes:g} 分钟，{machine}",
    needs="；先运行 {section} 一节的命令",
    needs_row="；先运行 {section} 一节里“{row}”的命令",
    needs_here="；先运行“{row}”的命令",
    no_training="不训练",
    then="，然后 ",
    batch_norm="（批归一化：{mode}）",
    evaluations=("way", "shot", "类别", "adaptation", "准确率（%）", "配对差异（百分点）", "任务数"),
    spread="不同种子：平均（标准差）",
    seeds="种子 {seeds}：配置中只有 `seed` 不同的各次运行的平均值与标准差；"
    "它决定新加权重的初值、训练的批次，以及训练中用于验证的任务；所有运行在同样的任务上评估。",
    spreads="配置中只有 `seed` 不同的各次运行，在同样的任务上，准确率的平均值与标准差：",
    spread_columns=("方法", "任务", "adaptation", "种子", "平均（标准差）"),
    support_set="一个支持集，{way}-way {shot}-shot，{adaptation}：{correct} / {total} 正确",
    classes=("标签", "类别", "正确 / 总数", "准确率"),
    methods=("方法", "adaptation"),
    task=("配对差异", "论文报告"),
    minutes="分钟",
    pairs="图片对的验证：",
    verification=("方法", "相似度", "图片对数", "ROC 曲线下面积", "等错误率（%）", "阈值下的正确率（%）"),
    command="{title}：`{command}`（{stages}{others}）",
    command_again="{title}，另一个种子：`{command}`（{machine}）",
    commands="命令，以及每次运行训练了什么",
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
