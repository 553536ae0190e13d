"""The typed configuration: what every key may hold, a file a group."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from reliabit.config.confidence import (
    ESTIMATORS,
    ConfidenceConfig,
    FeaturesConfig,
    SamplingConfig,
    SelectorConfig,
    SelfEvaluationConfig,
)
from reliabit.config.data import DataConfig
from reliabit.config.evaluation import EvaluationConfig
from reliabit.config.model import ModelConfig
from reliabit.config.paths import PathsConfig
from reliabit.config.registry import IncumbentConfig, RegistryConfig
from reliabit.config.task import RecipeConfig, TaskConfig
from reliabit.config.tracking import SweepConfig, TrackingConfig
from reliabit.config.trainer import TrainerConfig
from reliabit.quant.settings import BITS, UNQUANTIZED, UNQUANTIZED_BITS, CalibrationConfig, QuantConfig, ScalingConfig

__all__ = [
    "BITS",
    "ESTIMATORS",
    "UNQUANTIZED",
    "UNQUANTIZED_BITS",
    "CalibrationConfig",
    "ConfidenceConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "FeaturesConfig",
    "IncumbentConfig",
    "ModelConfig",
    "PathsConfig",
    "QuantConfig",
    "RecipeConfig",
    "RegistryConfig",
    "SamplingConfig",
    "ScalingConfig",
    "SelectorConfig",
    "SelfEvaluationConfig",
    "SweepConfig",
    "TaskConfig",
    "TrackingConfig",
    "TrainerConfig",
]


@dataclass
class Config:
    """One run.

    `other_data` holds data sets whose test questions are asked as well, as a shift from `data`.
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    data: DataConfig = field(default_factory=DataConfig)
    other_data: dict[str, DataConfig] = field(default_factory=dict)
    confidence: ConfidenceConfig = field(default_factory=ConfidenceConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    registry: RegistryConfig = field(default_factory=RegistryConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    seed: int = MISSING
