"""Words of other languages, through the Open Multilingual WordNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semscale.categories.lemmas import lists_of, spaced
from semscale.categories.options import texts_option
from semscale.categories.registry import Category, Places, StrategyContext, context_strategy
from semscale.categories.senses import SENSE_OPTIONS, choose_senses
from semscale.categories.wordnet import open_languages
from semscale.errors import SemscaleError

_WHERE = "strategy wordnet-languages"


@context_strategy("wordnet-languages", options=(*SENSE_OPTIONS, "languages"), places=False)
def wordnet_languages(context: StrategyContext) -> Mapping[str, Places]:
    """The class name, then the words for its sense in other languages (Open Multilingual WordNet).

    The option `languages` lists them by their three-letter codes (fra, deu, jpn); unless given, all that there are in
    alphabetical order. Models trained on English only may make little of them. Other options as for `wordnet`.

    Raises:
        SemscaleError: when WordNet or the data of other languages are not there, a language is unknown, or a class has
            several senses and nothing decides.
    """
    reader = open_languages()
    if not reader.omw_langs:
        reader.add_omw()  # a second time would count every language twice
    known = sorted(set(reader.langs()) - {"eng"})
    languages = texts_option(context.options, "languages", known, _WHERE)
    for language in languages:
        if language not in known:
            raise SemscaleError(
                "no data of this language", where=_WHERE, found=repr(language), expected=", ".join(known) or "none"
            )

    def words(sense: Any) -> list[Category]:
        return [
            Category(spaced(lemma), f"{language} for {sense.name()}")
            for language in languages
            for lemma in sense.lemma_names(language)
        ]

    return lists_of(choose_senses(context, reader, _WHERE), words)
