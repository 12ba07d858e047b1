"""Categories (label texts, prompts): strategies that make them for each class, and ladders of nested sets of them."""

from semscale.categories.ladder import FlatLadder, Ladder, LadderStep
from semscale.categories.ladder_builder import LadderSpec, build_ladder, build_ladders
from semscale.categories.strategy_registry import (
    Category,
    Strategy,
    StrategyContext,
    context_strategy,
    control,
    control_names,
    find_strategy,
    strategy,
    strategy_description,
    strategy_names,
)

__all__ = [
    "Category",
    "FlatLadder",
    "Ladder",
    "LadderSpec",
    "LadderStep",
    "Strategy",
    "StrategyContext",
    "build_ladder",
    "build_ladders",
    "context_strategy",
    "control",
    "control_names",
    "find_strategy",
    "strategy",
    "strategy_description",
    "strategy_names",
]
