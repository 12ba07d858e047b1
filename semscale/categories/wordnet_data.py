"""Access to WordNet: NLTK's data first, then the files of the operating system's package, then a download."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from semscale.common.errors import CategoryError

SYSTEM_WORDNET = Path("/usr/share/wordnet")
HOW_TO_GET = (
    "python -m nltk.downloader wordnet, or the system's packages (Debian: apt install wordnet-base wordnet-sense-index)"
)
_HOW_TO_GET_LANGUAGES = "python -m nltk.downloader omw-1.4"
_readers: dict[tuple[str, str], Any] = {}
# The names under which NLTK has had the Open Multilingual WordNet.
_LANGUAGES = ("omw-1.4", "omw-2.0", "omw")
_SYSTEM_FILES = (
    *("cntlist.rev", "index.sense"),
    *(f"{kind}.{part}" for kind in ("index", "data") for part in ("adj", "adv", "noun", "verb")),
    *(f"{part}.exc" for part in ("adj", "adv", "noun", "verb")),
)
# The file `lexnames` is not part of Debian's package; its content is that of the manual page lexnames(5WN).
_LEXNAMES = (
    ("adj", 3, "all pert"),
    ("adv", 4, "all"),
    (
        "noun",
        1,
        "Tops act animal artifact attribute body cognition communication event feeling food group location motive "
        "object person phenomenon plant possession process quantity relation shape state substance time",
    ),
    (
        "verb",
        2,
        "body change cognition communication competition consumption contact creation emotion motion perception "
        "possession social stative weather",
    ),
    ("adj", 3, "ppl"),
)


def find_wordnet() -> Path | None:
    """Return where WordNet is: in NLTK's data, or in the system's files (Debian's ``wordnet-base``), else None."""
    if (corpus := _corpus(["wordnet"])) is not None:
        return Path(str(corpus))
    return SYSTEM_WORDNET if (SYSTEM_WORDNET / "data.noun").exists() else None


def open_wordnet() -> Any:
    """Return NLTK's reader of WordNet 3.0, with other languages where their data are there; opened once per process.

    Looked for in this order: NLTK's data folders; the system's files, which NLTK only reads from a folder of its own,
    so they are copied (33 MB) to the cache folder once; a download by NLTK.
    """
    place = _corpus(["wordnet"])
    if place is None and all((SYSTEM_WORDNET / name).exists() for name in _SYSTEM_FILES):
        _add_data_folder(_copy_system_files(user_cache_path("semscale") / "nltk_data"))
        place = _corpus(["wordnet"])
    if place is None and _download("wordnet"):
        place = _corpus(["wordnet"])
    if place is None:
        what = "WordNet is not on this machine and could not be downloaded"
        expected = f"NLTK's corpus `wordnet`, or the files of WordNet 3.0 in {SYSTEM_WORDNET}"
        raise CategoryError(what, expected=expected, hint=HOW_TO_GET)
    return _reader(place, _corpus(_LANGUAGES))


def open_languages() -> Any:
    """Return NLTK's reader of WordNet together with the lemma names of other languages."""
    if _corpus(_LANGUAGES) is None and not (_download(_LANGUAGES[0]) and _corpus(_LANGUAGES)):
        what = "the Open Multilingual WordNet is not on this machine and could not be downloaded"
        raise CategoryError(what, expected=f"NLTK's corpus {' or '.join(_LANGUAGES)}", hint=_HOW_TO_GET_LANGUAGES)
    return open_wordnet()


def _corpus(names: Sequence[str]) -> Any:
    """Return NLTK's pointer to the first of these corpora that is there, unpacked or zipped."""
    import nltk

    for name in names:
        for place in (f"corpora/{name}", f"corpora/{name}.zip/{name}/"):
            with contextlib.suppress(LookupError):
                return nltk.data.find(place)
    return None


def _reader(place: Any, languages: Any) -> Any:
    from nltk.corpus.reader.api import CorpusReader
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    # opening takes seconds; pointers into zip files do not compare, their paths do
    key = str(place), str(languages)
    if key not in _readers:
        others = CorpusReader(languages, r".*/wn-data-.*\.tab", encoding="utf8") if languages is not None else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other languages are missing; only their strategy needs them
            _readers[key] = WordNetCorpusReader(place, others)
    return _readers[key]


def _add_data_folder(folder: Path) -> None:
    import nltk

    if str(folder) not in nltk.data.path:
        nltk.data.path.append(str(folder))


def _copy_system_files(folder: Path) -> Path:
    """Copy the system's WordNet to `folder`/corpora/wordnet and return `folder`; links are refused by NLTK 3.10."""
    target = folder / "corpora" / "wordnet"
    if target.exists():
        return folder
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # a folder that appears whole: two processes may do this at once, and either may be killed
        partial = Path(tempfile.mkdtemp(prefix=".wordnet-", dir=target.parent))
        try:
            for name in _SYSTEM_FILES:
                shutil.copyfile(SYSTEM_WORDNET / name, partial / name)
            (partial / "lexnames").write_text(lexnames(), encoding="ascii")
            with contextlib.suppress(OSError):  # the other process was faster
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        what = "the system's WordNet cannot be copied to where NLTK reads it"
        hint = "set XDG_CACHE_HOME to a writable folder"
        raise CategoryError(what, where=str(target), found=error.strerror or str(error), hint=hint) from error
    return folder


def lexnames() -> str:
    r"""Return the content of WordNet's file `lexnames`: 45 lines of number, name and part of speech.

    >>> lexnames().splitlines()[5], len(lexnames().splitlines())
    ('05\tnoun.animal\t1', 45)
    """
    names = [(f"{part}.{name}", kind) for part, kind, listed in _LEXNAMES for name in listed.split()]
    return "".join(f"{number:02d}\t{name}\t{kind}\n" for number, (name, kind) in enumerate(names))


def _download(name: str) -> bool:
    import nltk

    try:
        # NLTK prints its failures; ours is one error that says what to do
        return bool(nltk.download(name, quiet=True, print_error_to=io.StringIO()))
    except (OSError, ValueError):
        return False
