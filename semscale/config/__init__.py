"""The study file: one YAML file describes the grid of trials; typed, validated, with all its faults in one message."""

from semscale.config.load import load_study, study_from
from semscale.config.schema import DatasetConfig, ServerConfig, StrategyConfig, StudyConfig

__all__ = ["DatasetConfig", "ServerConfig", "StrategyConfig", "StudyConfig", "load_study", "study_from"]
