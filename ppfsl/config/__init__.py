"""Typed, strict configuration: YAML with `_base_` inheritance and `-o a.b=c` overrides.

The classes of this package are the reference of every key: its type, its range and its default; `root.Config` is
where to begin. Unknown keys are errors. Nothing here imports Paddle.
"""

from ppfsl.config.adaptations import Adaptation, BaselineConfig, ClassMeanConfig, FinetuneConfig
from ppfsl.config.backbone import BackboneConfig, EmbeddingConfig
from ppfsl.config.data import DataConfig, SyntheticConfig
from ppfsl.config.evaluation import EvaluationConfig, SupportSetConfig, VerificationConfig
from ppfsl.config.objectives import (
    AnilConfig,
    ContrastiveConfig,
    CosineConfig,
    CrossEntropyConfig,
    EpisodicConfig,
    LearnedOptimizerConfig,
    LstmMetaLearnerConfig,
    MamlConfig,
    MatchingConfig,
    MemoryAugmentedConfig,
    MetaBaselineConfig,
    MetaSgdConfig,
    Objective,
    PrototypicalConfig,
    RelationConfig,
    ReptileConfig,
    SiameseConfig,
    TaskConfig,
    TripletConfig,
)
from ppfsl.config.root import Config
from ppfsl.config.training import (
    AugmentationConfig,
    OptimizerConfig,
    ScheduleConfig,
    StageConfig,
    ValidationConfig,
)

__all__ = [
    "Adaptation",
    "AnilConfig",
    "AugmentationConfig",
    "BackboneConfig",
    "BaselineConfig",
    "ClassMeanConfig",
    "Config",
    "ContrastiveConfig",
    "CosineConfig",
    "CrossEntropyConfig",
    "DataConfig",
    "EmbeddingConfig",
    "EpisodicConfig",
    "EvaluationConfig",
    "FinetuneConfig",
    "LearnedOptimizerConfig",
    "LstmMetaLearnerConfig",
    "MamlConfig",
    "MatchingConfig",
    "MemoryAugmentedConfig",
    "MetaBaselineConfig",
    "MetaSgdConfig",
    "Objective",
    "OptimizerConfig",
    "PrototypicalConfig",
    "RelationConfig",
    "ReptileConfig",
    "ScheduleConfig",
    "SiameseConfig",
    "StageConfig",
    "SupportSetConfig",
    "SyntheticConfig",
    "TaskConfig",
    "TripletConfig",
    "ValidationConfig",
    "VerificationConfig",
]
