"""Synonyms from WordNet."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.categories.lemmas import lemma_categories, lists_of
from semscale.categories.registry import Places, StrategyContext, context_strategy
from semscale.categories.senses import SENSE_OPTIONS, choose_senses
from semscale.categories.wordnet import open_wordnet


@context_strategy("wordnet", options=SENSE_OPTIONS, places=False)
def wordnet(context: StrategyContext) -> Mapping[str, Places]:
    """The class name, then its synonyms in WordNet: the other words for the same sense.

    The options `senses`, `hypernym` and `ambiguous` choose the sense, see
    :func:`semscale.categories.senses.choose_senses`. A class that WordNet does not know has its name only.

    Raises:
        SemscaleError: when WordNet is not there, or a class has several senses and nothing decides.
    """
    senses = choose_senses(context, open_wordnet(), "strategy wordnet")
    return lists_of(senses, lambda sense: lemma_categories([sense], "synonym in"))
