"""Finding the WordNet corpus: NLTK's data folders first, then the files of the operating system's package."""

from __future__ import annotations

from pathlib import Path

SYSTEM_WORDNET = Path("/usr/share/wordnet")
HOW_TO_GET = (
    "python -m nltk.downloader wordnet, or the system's packages (Debian: apt install wordnet-base wordnet-sense-index)"
)


def find_wordnet() -> Path | None:
    """Return where WordNet lies, or None.

    NLTK's corpus is looked for on ``nltk.data.path``; the system's files (Debian's ``wordnet-base``) hold the
    same WordNet 3.0 database under /usr/share/wordnet.
    """
    import nltk

    for name in ("corpora/wordnet", "corpora/wordnet.zip"):
        try:
            return Path(str(nltk.data.find(name)))
        except LookupError:
            continue
    return SYSTEM_WORDNET if (SYSTEM_WORDNET / "data.noun").exists() else None
