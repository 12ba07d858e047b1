"""Access to WordNet: NLTK's data, the files of the operating system's package, or a download."""

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
INSTALL_HINT = (
    "python -m nltk.downloader wordnet, or the system's packages (Debian: apt install wordnet-base wordnet-sense-index)"
)
_LANGUAGES_INSTALL_HINT = "python -m nltk.downloader omw-1.4"
_readers: dict[tuple[str, str], Any] = {}
# The names of the Open Multilingual WordNet in versions of NLTK.
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
    """Return the folder of WordNet, in NLTK's data or the system's (Debian's ``wordnet-base``); None if missing."""
    if (corpus := _corpus(["wordnet"])) is not None:
        return Path(str(corpus))
    return SYSTEM_WORDNET if (SYSTEM_WORDNET / "data.noun").exists() else None


def open_wordnet() -> Any:
    """Return NLTK's reader of WordNet 3.0, with other languages if their data exist; opened once per process.

    The data are searched in NLTK's data folders; then in the system's files, which are copied once (33 MB) to a folder
    in the cache, since NLTK does not read them elsewhere; then they are downloaded by NLTK. CategoryError if all fail.
    """
    corpus = _corpus(["wordnet"])
    if corpus is None and all((SYSTEM_WORDNET / name).exists() for name in _SYSTEM_FILES):
        _add_data_folder(_copy_system_files(user_cache_path("semscale") / "nltk_data"))
        corpus = _corpus(["wordnet"])
    if corpus is None and _download("wordnet"):
        corpus = _corpus(["wordnet"])
    if corpus is None:
        what = "WordNet is not on this machine and could not be downloaded"
        expected = f"NLTK's corpus `wordnet`, or the files of WordNet 3.0 in {SYSTEM_WORDNET}"
        raise CategoryError(what, expected=expected, hint=INSTALL_HINT)
    return _reader(corpus, _corpus(_LANGUAGES))


def open_languages() -> Any:
    """Return NLTK's reader of WordNet with the lemma names of other languages; CategoryError if it is missing."""
    if _corpus(_LANGUAGES) is None and not (_download(_LANGUAGES[0]) and _corpus(_LANGUAGES)):
        what = "the Open Multilingual WordNet is not on this machine and could not be downloaded"
        raise CategoryError(what, expected=f"NLTK's corpus {' or '.join(_LANGUAGES)}", hint=_LANGUAGES_INSTALL_HINT)
    return open_wordnet()


def _corpus(names: Sequence[str]) -> Any:
    """Return NLTK's pointer to the first of these corpora that exists, unpacked or zipped."""
    import nltk

    for name in names:
        for path in (f"corpora/{name}", f"corpora/{name}.zip/{name}/"):
            with contextlib.suppress(LookupError):
                return nltk.data.find(path)
    return None


def _reader(corpus: Any, languages: Any) -> Any:
    from nltk.corpus.reader.api import CorpusReader
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    # opening takes seconds; pointers into zip files have no equality, their paths have
    key = str(corpus), str(languages)
    if key not in _readers:
        others = CorpusReader(languages, r".*/wn-data-.*\.tab", encoding="utf8") if languages is not None else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about missing languages, which only one strategy needs
            _readers[key] = WordNetCorpusReader(corpus, others)
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
        # renamed when complete: processes may do this concurrently, and may be killed
        partial = Path(tempfile.mkdtemp(prefix=".wordnet-", dir=target.parent))
        try:
            for name in _SYSTEM_FILES:
                shutil.copyfile(SYSTEM_WORDNET / name, partial / name)
            (partial / "lexnames").write_text(lexnames(), encoding="ascii")
            with contextlib.suppress(OSError):  # another process was faster
                partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        what = "the system's WordNet cannot be copied to NLTK's data folder"
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
        # NLTK would print its failures; open_wordnet raises an error that says what to do
        return bool(nltk.download(name, quiet=True, print_error_to=io.StringIO()))
    except (OSError, ValueError):
        return False
