"""Kinds of a class from WordNet."""

from __future__ import annotations

from collections.abc import Mapping

from semscale.categories.lemmas import lemma_categories, lists_of
from semscale.categories.registry import Places, StrategyContext, context_strategy
from semscale.categories.senses import SENSE_OPTIONS, choose_senses, descendants
from semscale.categories.wordnet import open_wordnet


@context_strategy("wordnet-hyponyms", options=SENSE_OPTIONS, places=False)
def wordnet_hyponyms(context: StrategyContext) -> Mapping[str, Places]:
    """The class name, then the kinds of it in WordNet (dog: puppy, poodle ...), direct and frequent ones first.

    Options as for the strategy `wordnet`.

    Raises:
        SemscaleError: when WordNet is not there, or a class has several senses and nothing decides.
    """
    senses = choose_senses(context, open_wordnet(), "strategy wordnet-hyponyms")
    return lists_of(senses, lambda sense: lemma_categories(descendants(sense), "hyponym"))
