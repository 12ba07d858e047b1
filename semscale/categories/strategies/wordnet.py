"""WordNet strategies: synonyms, hypernyms, hyponyms, and words of other languages.

All have the options `senses`, `hypernym` and `ambiguous`, which select the sense of each class, see
:func:`semscale.categories.senses.choose_senses`, and raise a CategoryError when WordNet is missing or the sense of a
class is ambiguous. A class that WordNet does not know has its name only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from semscale.categories.senses import SENSE_OPTIONS, Synset, ancestors, choose_senses, descendants
from semscale.categories.strategy_registry import (
    Category,
    CategoryLists,
    StrategyContext,
    context_strategy,
    read_option,
)
from semscale.categories.wordnet_data import open_languages, open_wordnet
from semscale.common.errors import CategoryError
from semscale.common.text import text_key


@context_strategy("wordnet", options=SENSE_OPTIONS, aligned=False)
def wordnet(context: StrategyContext) -> CategoryLists:
    """The class name, then its synonyms in WordNet: the other words for the same sense."""
    senses = choose_senses(context, open_wordnet(), "strategy wordnet")
    return _lists_of(senses, lambda sense: _lemma_categories([sense], "synonym in"))


@context_strategy("wordnet-hypernyms", options=SENSE_OPTIONS, aligned=False)
def wordnet_hypernyms(context: StrategyContext) -> CategoryLists:
    """The class name, then its hypernyms in WordNet (dog: canine) that are not hypernyms of another class.

    A hypernym of two classes (carnivore, of cat and dog) does not distinguish them and is left out, and so is a
    hypernym that is another class.
    """
    senses = choose_senses(context, open_wordnet(), "strategy wordnet-hypernyms")
    owners = Counter(up for sense in senses.values() if sense is not None for up in {sense, *ancestors(sense)})
    return _lists_of(
        senses, lambda sense: _lemma_categories([up for up in ancestors(sense) if owners[up] == 1], "hypernym")
    )


@context_strategy("wordnet-hyponyms", options=SENSE_OPTIONS, aligned=False)
def wordnet_hyponyms(context: StrategyContext) -> CategoryLists:
    """The class name, then its hyponyms in WordNet (dog: puppy, poodle ...), direct and frequent ones first."""
    senses = choose_senses(context, open_wordnet(), "strategy wordnet-hyponyms")
    return _lists_of(senses, lambda sense: _lemma_categories(descendants(sense), "hyponym"))


_WHERE = "strategy wordnet-languages"


@context_strategy("wordnet-languages", options=(*SENSE_OPTIONS, "languages"), aligned=False)
def wordnet_languages(context: StrategyContext) -> CategoryLists:
    """The class name, then the words for its sense in other languages (Open Multilingual WordNet).

    The option `languages` lists them by their three-letter codes (fra, deu, jpn); default: all available ones, sorted.
    Models trained on English only may not understand them.
    """
    reader = open_languages()
    if not reader.omw_langs:
        reader.add_omw()  # a second call would count every language twice
    known = sorted(set(reader.langs()) - {"eng"})
    languages = read_option(context.options, "languages", list[str], _WHERE, known)
    for language in languages:
        if language not in known:
            raise CategoryError(
                "no data of this language", where=_WHERE, found=repr(language), expected=", ".join(known) or "none"
            )

    def words(sense: Any) -> list[Category]:
        return [
            Category(_spaced(lemma), f"{language} for {sense.name()}")
            for language in languages
            for lemma in sense.lemma_names(language)
        ]

    return _lists_of(choose_senses(context, reader, _WHERE), words)


def _lists_of(
    senses: Mapping[str, Synset | None], equivalents: Callable[[Synset], Sequence[Category]]
) -> CategoryLists:
    """Return for each class its name and the equivalents of its sense, without repetitions."""
    lists = {}
    for name, sense in senses.items():
        distinct = {text_key(name): Category(name, "{c}")}
        for category in equivalents(sense) if sense is not None else ():
            distinct.setdefault(text_key(category.text), category)
        lists[name] = list(distinct.values())
    return lists


def _lemma_categories(senses: Iterable[Synset], relation: str) -> list[Category]:
    """Return the words of these senses; the provenance is the relation and the sense."""
    return [Category(_spaced(lemma), f"{relation} {sense.name()}") for sense in senses for lemma in sense.lemma_names()]


def _spaced(lemma: str) -> str:
    return lemma.replace("_", " ")
