"""A study's own template list."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.categories.fields import fill_templates
from semscale.categories.options import texts_option
from semscale.categories.registry import Category, StrategyContext, context_strategy

_WHERE = "strategy custom, option templates"


@context_strategy("custom", options=("templates",))
def custom(context: StrategyContext) -> Mapping[str, list[Category]]:
    """Own templates with {c}, {C}, {cs} and {domain}, in the order of the option `templates`.

    The class name itself always comes first; plurals are real ones.

    >>> options = {"templates": ["a photo of a {c}", "{cs}"]}
    >>> custom(StrategyContext(("dog",), "animal", options))["dog"][2]
    Category(text='dogs', provenance='{cs}')
    """
    templates = texts_option(context.options, "templates", None, "strategy custom")
    return {name: list(fill_templates(name, context.domain, templates, _WHERE)) for name in context.classes}
