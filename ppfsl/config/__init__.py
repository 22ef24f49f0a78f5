"""Typed, strict configuration: YAML with `_base_` inheritance and `-o a.b=c` overrides.

The classes of this package are the reference of every key: its type, its range and its default; `root.Config` is
where to begin. Unknown keys are errors. Nothing here imports Paddle.
"""

from ppfsl.config.adaptations import (
    Adaptation,
    BaselineConfig,
    ClassMeanConfig,
    FinetuneConfig,
    MatchingAdaptationConfig,
    MetaBaselineAdaptationConfig,
    NearestShotConfig,
    PrototypicalAdaptationConfig,
    RelationAdaptationConfig,
    SiameseAdaptationConfig,
)
from ppfsl.config.backbone import BackboneConfig
from ppfsl.config.data import DataConfig, SyntheticConfig
from ppfsl.config.evaluation import EvaluationConfig, SupportSetConfig, VerificationConfig
from ppfsl.config.objectives import (
    ContrastiveConfig,
    CosineConfig,
    CrossEntropyConfig,
    EpisodicConfig,
    MatchingConfig,
    MetaBaselineConfig,
    Objective,
    PrototypicalConfig,
    RelationConfig,
    SiameseConfig,
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
    "AugmentationConfig",
    "BackboneConfig",
    "BaselineConfig",
    "ClassMeanConfig",
    "Config",
    "ContrastiveConfig",
    "CosineConfig",
    "CrossEntropyConfig",
    "DataConfig",
    "EpisodicConfig",
    "EvaluationConfig",
    "FinetuneConfig",
    "MatchingAdaptationConfig",
    "MatchingConfig",
    "MetaBaselineAdaptationConfig",
    "MetaBaselineConfig",
    "NearestShotConfig",
    "Objective",
    "OptimizerConfig",
    "PrototypicalAdaptationConfig",
    "PrototypicalConfig",
    "RelationAdaptationConfig",
    "RelationConfig",
    "ScheduleConfig",
    "SiameseAdaptationConfig",
    "SiameseConfig",
    "StageConfig",
    "SupportSetConfig",
    "SyntheticConfig",
    "TripletConfig",
    "ValidationConfig",
    "VerificationConfig",
]
