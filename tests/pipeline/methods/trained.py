"""Every method that is trained: its objectives, its adaptation, and what its rows and checkpoints hold."""

from tests.pipeline.runs import Tree

EPISODES: Tree = {"way": 3, "shot": 1, "query": 3}
CLASSES: Tree = {"classes_per_batch": 3, "images_per_class": 3}
METHODS: dict[str, tuple[list[Tree], Tree]] = {  # objectives in order, adaptation
    "contrastive": ([{"name": "contrastive", **CLASSES}], {"name": "nearest_shot"}),
    "siamese": ([{"name": "siamese", **CLASSES}], {"name": "siamese"}),
    "siamese, concatenation": (
        [{"name": "siamese", "merge": "concatenation", "hidden": [6], **CLASSES}],
        {"name": "siamese", "shots": "max"},
    ),
    "prototypical": ([{"name": "prototypical", "episodes_per_batch": 2, **EPISODES}], {"name": "prototypical"}),
    "matching": ([{"name": "matching", "temperature": 0.1, **EPISODES}], {"name": "matching", "temperature": 0.1}),
    "matching, full context": (
        [{"name": "matching", **EPISODES}, {"name": "matching", "context": "full", **EPISODES}],
        {"name": "matching", "context": "full"},
    ),
    "relation": ([{"name": "relation", "width": 4, **EPISODES}], {"name": "relation"}),
    "meta_baseline": (
        [{"name": "cross_entropy", "batch_size": 8}, {"name": "meta_baseline", **EPISODES}],
        {"name": "meta_baseline"},
    ),
    "anil": ([{"name": "anil", "inner_steps": 2, **EPISODES}], {"name": "anil", "steps": 3}),
    "maml": ([{"name": "maml", "episodes_per_batch": 2, **EPISODES}], {"name": "maml"}),
    "maml, first order": (
        [{"name": "maml", "order": 1, "batch_norm": "running", **EPISODES}],
        {"name": "maml", "steps": 2, "lr": 0.1, "batch_norm": "support_statistics"},
    ),
    "meta_sgd": ([{"name": "meta_sgd", "batch_norm": "support_statistics", **EPISODES}], {"name": "meta_sgd"}),
    "reptile": (
        [{"name": "reptile", "batch_norm": "support_statistics", **EPISODES}],
        {"name": "reptile", "steps": 3, "batch_norm": "running"},
    ),
    "lstm_meta_learner": (
        [{"name": "lstm_meta_learner", "inner_steps": 2, "batch_norm": "support_statistics", "hidden": 4, **EPISODES}],
        {"name": "lstm_meta_learner", "steps": 3},
    ),
    "learned_optimizer": (
        [{"name": "learned_optimizer", "inner_steps": 2, "hidden": 4, **EPISODES}],
        {"name": "learned_optimizer", "inner_steps": 3},
    ),
    "memory_augmented": (
        [{"name": "memory_augmented", "way": 3, "instances": 3, "hidden": 6, "slots": 5, "width": 4, "heads": 2}],
        {"name": "memory_augmented"},
    ),
    "baseline": ([{"name": "cross_entropy", "batch_size": 8}], {"name": "baseline", "epochs": 3}),
    "baseline++": (
        [{"name": "cross_entropy", "classifier": "cosine", "batch_size": 8}],
        {"name": "baseline++", "epochs": 3},
    ),
}
BATCH_NORM = {  # of the rows of methods that adapt batch norm too
    "maml": "transductive",
    "maml, first order": "support_statistics",
    "meta_sgd": "support_statistics",
    "reptile": "running",
    "lstm_meta_learner": "support_statistics",
}
LAYERS = {"siamese", "siamese, concatenation", "matching, full context", "relation", "meta_baseline"}
LAYERS |= {"anil", "learned_optimizer", "memory_augmented", *BATCH_NORM}
