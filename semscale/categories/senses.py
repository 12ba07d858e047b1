"""WordNet sense of each class: chosen by the user, a hypernym or the domain, never guessed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from semscale.categories.strategy_registry import MAPPING, StrategyContext, read_option
from semscale.common.errors import CategoryError
from semscale.common.text import text_key

SENSE_OPTIONS = ("senses", "hypernym", "ambiguous")
"""Options of all strategies from WordNet, see :func:`choose_senses`."""

Synset = Any


def choose_senses(context: StrategyContext, wordnet: Any, where: str) -> dict[str, Synset | None]:
    """Return the noun sense of each class; None for a class that WordNet does not know.

    By precedence: the option `senses` ({class: synset name}, such as {crane: crane.n.05}); the only sense under the
    option `hypernym` (a synset name); the only sense of the class name; the only one under a sense of the domain. What
    remains ambiguous is refused with all candidates, unless the option `ambiguous` is "first": then it is the first
    one, the most frequent according to WordNet. The most frequent sense is no good default: that of "seahorse" is the
    walrus.

    Args:
        context: classes, domain and options.
        wordnet: NLTK's reader.
        where: the strategy, for messages.

    Raises:
        CategoryError: ambiguous classes, unknown synsets, or senses of unknown classes.
    """
    explicit = _explicit_senses(context, wordnet, where)
    hypernym = context.options.get("hypernym")
    roots = {_synset(wordnet, read_option(context.options, "hypernym", str, where), where)} if hypernym else set()
    policy = read_option(context.options, "ambiguous", Literal["refuse", "first"], where, "refuse")
    domain = set(_nouns(wordnet, context.domain))
    chosen: dict[str, Synset | None] = {}
    ambiguous: dict[str, list[Synset]] = {}
    for name in context.classes:
        if name in explicit:
            chosen[name] = explicit[name]
            continue
        senses = _nouns(wordnet, name)
        candidates = [sense for sense in senses if _is_under(sense, roots)] if roots else senses
        if len(candidates) > 1:
            candidates = [sense for sense in candidates if _is_under(sense, domain)] or candidates
        if len(candidates) > 1 and policy == "refuse":
            ambiguous[name] = candidates
        elif senses and not candidates:
            ambiguous[name] = senses
        chosen[name] = candidates[0] if candidates else None
    if ambiguous:
        raise _ambiguity_error(ambiguous, context, where)
    return chosen


def ancestors(sense: Synset) -> list[Synset]:
    """Return all hypernyms of a sense, nearest first."""
    return _walk(sense, lambda synset: [*synset.hypernyms(), *synset.instance_hypernyms()])


def descendants(sense: Synset) -> list[Synset]:
    """Return all hyponyms of a sense, nearest first."""
    return _walk(sense, lambda synset: synset.hyponyms())


def _walk(sense: Synset, step: Callable[[Synset], Sequence[Synset]]) -> list[Synset]:
    seen = {sense: None}
    queue = deque([sense])
    while queue:
        # NLTK stores relations in sets, whose iteration differs between processes; the sort is by frequency in
        # WordNet's tagged texts, then by position in its files.
        for synset in sorted(step(queue.popleft()), key=lambda synset: (-_frequency(synset), synset.offset())):
            if synset not in seen:
                seen[synset] = None
                queue.append(synset)
    return list(seen)[1:]


def _frequency(sense: Synset) -> int:
    return sum(lemma.count() for lemma in sense.lemmas())


def _is_under(sense: Synset, roots: set[Synset]) -> bool:
    return sense in roots or any(ancestor in roots for ancestor in ancestors(sense))


def _nouns(wordnet: Any, name: str) -> list[Synset]:
    words = text_key(name).split()
    for joint in ("_", "-", ""):
        if words and (synsets := wordnet.synsets(joint.join(words), "n")):
            return list(synsets)
    return []


def _explicit_senses(context: StrategyContext, wordnet: Any, where: str) -> dict[str, Synset]:
    names = {text_key(name): name for name in context.classes}
    senses = {}
    for name, synset in read_option(context.options, "senses", MAPPING, where, {}).items():
        if text_key(name) not in names:
            what = "the option 'senses' names an unknown class"
            expected = f"one of {', '.join(context.classes[:12])}"
            raise CategoryError(what, where=where, found=repr(name), expected=expected)
        class_name = names[text_key(name)]
        senses[class_name] = _synset(wordnet, synset, where, class_name)
    return senses


def _synset(wordnet: Any, name: object, where: str, class_name: str | None = None) -> Synset:
    from nltk.corpus.reader.wordnet import WordNetError

    try:
        return wordnet.synset(name)
    except (WordNetError, ValueError, AttributeError) as error:
        known = [_with_gloss(sense) for sense in _nouns(wordnet, class_name)] if class_name else []
        where = where if class_name is None else f"{where}, class {class_name}"
        expected = "; ".join(known) or "a synset name such as crane.n.05"
        raise CategoryError("WordNet has no such synset", where=where, found=repr(name), expected=expected) from error


def _ambiguity_error(classes: Mapping[str, list[Synset]], context: StrategyContext, where: str) -> CategoryError:
    lines = [f"{name}: {'; '.join(map(_with_gloss, senses))}" for name, senses in classes.items()]
    example = ", ".join(f"{name}: {senses[0].name()}" for name, senses in classes.items())
    single = len(classes) == 1
    return CategoryError(
        f"{'a class has' if single else f'{len(classes)} classes have'} several senses in WordNet, "
        f"and neither a hypernym nor the domain {context.domain!r} selects one of them",
        where=where,
        found="\n            ".join(lines),
        hint=f"choose with the option senses, such as {{{example}}} (the most frequent senses, which may be wrong)",
    )


def _with_gloss(synset: Synset) -> str:
    gloss = synset.definition()
    return f"{synset.name()} ({gloss if len(gloss) <= 60 else gloss[:57] + '...'})"
