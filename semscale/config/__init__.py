"""Study file: the grid of trials in YAML, typed and validated, with all mistakes in one message."""

from semscale.config.load import load_study, study_from
from semscale.config.schema import DatasetConfig, ServerConfig, StrategyConfig, StudyConfig

__all__ = ["DatasetConfig", "ServerConfig", "StrategyConfig", "StudyConfig", "load_study", "study_from"]
