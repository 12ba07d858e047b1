"""Text helpers: validation, normal forms for comparison and file names, counts in words."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import unicodedata

# five parts and a suffix stay below the 255 bytes of a file name
_MAX_PART_BYTES = 64

_VERBS = {"are": "is", "have": "has"}
_VERBS |= {verb: f"{verb}s" for verb in ("choose", "differ", "lead", "measure", "say", "stay")}

# Tokenizers truncate texts at about 77 tokens; a text as long as a book is a mistake and takes seconds to tokenize.
MAX_TEXT_CHARACTERS = 20_000


def check_text(text: str) -> str:
    """Return a text unchanged; raise ValueError with the reason if it cannot be encoded."""
    if not text.strip():
        raise ValueError("the text is empty")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"a text of {len(text)} characters is longer than {MAX_TEXT_CHARACTERS}")
    return text


def text_key(text: str) -> str:
    """Return the normal form of a text for comparison: NFC, lower case, underscores as spaces, runs of spaces as one.

    CLIP's tokenizer does the same, and tells Buße from Busse; underscores replace spaces in names of folders.

    >>> text_key("  Garden_Roses "), text_key("Buße")
    ('garden roses', 'buße')
    """
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").split()).lower()


def hyphenated(text: str, kept: str) -> str:
    """Replace by hyphens all but letters and digits, of any script, and the characters `kept`.

    >>> hyphenated("Fotos (2012), 照片", ".-")
    'Fotos-2012-照片'
    """
    # in many scripts a letter is a character with its marks
    letters = unicodedata.normalize("NFC", text)
    spaced = (char if char in kept or unicodedata.category(char)[0] in "LMN" else " " for char in letters)
    return re.sub(" +", "-", "".join(spaced)).strip("-")


def slug(*parts: object) -> str:
    """Join parts with ``__`` into a file name of safe characters; different parts give different names.

    A part with other characters gets a short digest, but for the models' names ARCHITECTURE::TAG and
    hf-hub:OWNER/NAME.

    >>> slug("digits", "ViT-B-32::laion2b", "templates", 0)
    'digits__ViT-B-32-laion2b__templates__0'
    >>> slug("照片", "a/b"), slug("a b")
    ('照片__a-b-c14cddc0', 'a-b-c8687a08')
    """
    return "__".join(_file_name_part(str(part)) for part in parts)


def _file_name_part(text: str) -> str:
    """Return a part in safe characters, without ``__``, which separates parts."""
    name = re.sub("__+", "_", hyphenated(text, "._-")).strip("._-")
    # only a tag or owner without hyphens, so that A::B-C and A-B::C have different names
    plain = re.sub(r"^hf-hub:([\w.]+)/", r"hf-hub-\1-", re.sub(r"(?<=\w)::(?=[\w.]+$)", "-", text))
    if name == plain and name and len(name.encode()) <= _MAX_PART_BYTES:
        return name
    digest = short_digest(text)
    short = name.encode("utf-8")[: _MAX_PART_BYTES - 1 - len(digest)].decode("utf-8", "ignore")
    return f"{short}-{digest}".lstrip("-")


def short_digest(text: str) -> str:
    """Return 8 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def counted(n: int, phrase: str, form: str = "") -> str:
    """Return a number and the phrase that it counts: given in the plural, put into the singular for 1.

    >>> counted(1, "classes have no image and are left out"), counted(1, "exact copies"), counted(1200, "images", ",")
    ('1 class has no image and is left out', '1 exact copy', '1,200 images')
    """
    if n == 1:
        phrase = re.sub(r"\b(\w+ss)es\b|\b(\w+)ies\b|\b(\w*[^\Ws])s\b", _singular, phrase, count=1)
        phrase = re.sub(rf"\b({'|'.join(_VERBS)})\b", lambda verb: _VERBS[verb[0]], phrase)
    return f"{n:{form}} {phrase}"


def _singular(noun: re.Match[str]) -> str:
    return noun[1] or (f"{noun[2]}y" if noun[2] else noun[3])


def package_version(package: str) -> str | None:
    """Return the version of an installed package, or None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
