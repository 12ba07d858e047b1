"""Strategies make equivalent texts for each class; ladders are nested sets of them."""

from semscale.categories.ladder import FlatLadder, Ladder, LadderStep, build_ladder
from semscale.categories.registry import (
    Category,
    find_strategy,
    strategy,
    strategy_description,
    strategy_names,
)

__all__ = [
    "Category",
    "FlatLadder",
    "Ladder",
    "LadderStep",
    "build_ladder",
    "find_strategy",
    "strategy",
    "strategy_description",
    "strategy_names",
]
