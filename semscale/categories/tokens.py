"""How long a text is for CLIP, which reads 77 tokens and cuts off the rest without a word."""

from __future__ import annotations

import re

CLIP_TOKENS = 77
"""The tokens that CLIP's text tower reads, start and end marks included."""

# CLIP's tokenizer first splits a text so: clitics, runs of letters, single digits, runs of anything else.
_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)
_LETTERS_PER_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Return about how many tokens a text has, on the safe side, without the tokenizer's vocabulary.

    The text is split into pieces as CLIP's tokenizer does; an English piece counts a token for every three letters
    begun (common words are one token whatever their length, rare ones have three to four letters per token), any
    other piece one for every byte. Two more mark start and end. Ordinary English has about half as many tokens; of
    20,000 nouns of WordNet 97 % have no more, the others (Latin names of species) one or two.

    >>> estimate_tokens("a photo of a dog"), estimate_tokens("犬")
    (8, 5)
    """
    return 2 + sum(map(_tokens_of_piece, _PIECES.findall(text)))


def _tokens_of_piece(piece: str) -> int:
    if piece.isascii() and piece.isalpha():
        return -(-len(piece) // _LETTERS_PER_TOKEN)
    return len(piece.encode())
