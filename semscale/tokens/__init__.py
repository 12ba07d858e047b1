"""Token strategies of image towers: settings, costs, and the features of every level.

What needs torch is in :mod:`semscale.tokens.levels`, :mod:`semscale.tokens.tower` and
:mod:`semscale.tokens.register_neurons`; what is named here needs none.
"""

from semscale.tokens.cost import LevelCost, block_macs, level_cost, tower_macs
from semscale.tokens.setting import TokenSetting, parse_setting
from semscale.tokens.token_counts import TowerShape, kept
from semscale.tokens.token_strategies import TokenStrategy, find_token_strategy, token_strategy_names

__all__ = [
    "LevelCost",
    "TokenSetting",
    "TokenStrategy",
    "TowerShape",
    "block_macs",
    "find_token_strategy",
    "kept",
    "level_cost",
    "parse_setting",
    "token_strategy_names",
    "tower_macs",
]
