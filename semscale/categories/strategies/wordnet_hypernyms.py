"""What a class is a kind of, from WordNet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from semscale.categories.lemmas import lemma_categories, lists_of
from semscale.categories.registry import Places, StrategyContext, context_strategy
from semscale.categories.senses import SENSE_OPTIONS, ancestors, choose_senses
from semscale.categories.wordnet import open_wordnet


@context_strategy("wordnet-hypernyms", options=SENSE_OPTIONS, places=False)
def wordnet_hypernyms(context: StrategyContext) -> Mapping[str, Places]:
    """The class name, then what it is a kind of in WordNet (dog: canine), as far as no other class is one too.

    A hypernym of two classes (carnivore, of cat and dog) cannot tell them apart and is left out, and so is a hypernym
    that is another class itself. Options as for the strategy `wordnet`.

    Raises:
        SemscaleError: when WordNet is not there, or a class has several senses and nothing decides.
    """
    senses = choose_senses(context, open_wordnet(), "strategy wordnet-hypernyms")
    owners = Counter(one for sense in senses.values() if sense is not None for one in {sense, *ancestors(sense)})
    return lists_of(
        senses, lambda sense: lemma_categories([up for up in ancestors(sense) if owners[up] == 1], "hypernym")
    )
