"""Texts: what can be encoded, and their normal forms for comparison and for names of files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import unicodedata

# five parts and an ending stay below the 255 bytes that a file name may have
_LONGEST_PART = 64

_VERBS = {"are": "is", "have": "has"}
_VERBS |= {verb: f"{verb}s" for verb in ("choose", "differ", "lead", "measure", "say", "stay")}

# Tokenisers cut a text at some 77 tokens; a text as long as a book is a mistake and costs seconds to tokenise.
MAX_TEXT_CHARACTERS = 20_000


def check_text(text: str) -> str:
    """Return a text that can be encoded as it is, or raise a ValueError that says why it cannot be."""
    if not text.strip():
        raise ValueError("the text is empty")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"a text of {len(text)} characters is longer than {MAX_TEXT_CHARACTERS}")
    return text


def text_key(text: str) -> str:
    """Return the form in which two texts are compared: composed, in lower case, underscores as spaces, spaces folded.

    CLIP's tokenizer composes, lower-cases and folds spaces itself, to which Buße is not Busse; underscores stand for
    spaces in names of folders.

    >>> text_key("  Garden_Roses "), text_key("Buße")
    ('garden roses', 'buße')
    """
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").split()).lower()


def hyphenated(text: str, kept: str) -> str:
    """Return a text with hyphens for everything but letters and digits, of all scripts, and the characters `kept`.

    >>> hyphenated("Fotos (2012), 照片", ".-")
    'Fotos-2012-照片'
    """
    # a letter of many scripts is a character with its marks
    letters = unicodedata.normalize("NFC", text)
    spaced = (one if one in kept or unicodedata.category(one)[0] in "LMN" else " " for one in letters)
    return re.sub(" +", "-", "".join(spaced)).strip("-")


def slug(*parts: object) -> str:
    """Join the parts of a file name with ``__``, each made of harmless characters only; other parts give another name.

    A part that cannot stand as it is gets a short digest; models' names, ARCHITECTURE::TAG and hf-hub:OWNER/NAME, do
    without.

    >>> slug("digits", "ViT-B-32::laion2b", "templates", 0)
    'digits__ViT-B-32-laion2b__templates__0'
    >>> slug("照片", "a/b"), slug("a b")
    ('照片__a-b-c14cddc0', 'a-b-c8687a08')
    """
    return "__".join(_file_name_part(str(part)) for part in parts)


def _file_name_part(text: str) -> str:
    """Return what stands for a part of a file name; ``__``, which divides parts, is in none."""
    name = re.sub("__+", "_", hyphenated(text, "._-")).strip("._-")
    # tag and owner without a hyphen, so that A::B-C and A-B::C have different names
    plain = re.sub(r"^hf-hub:([\w.]+)/", r"hf-hub-\1-", re.sub(r"(?<=\w)::(?=[\w.]+$)", "-", text))
    if name == plain and name and len(name.encode()) <= _LONGEST_PART:
        return name
    digest = short_digest(text)
    short = name.encode("utf-8")[: _LONGEST_PART - 1 - len(digest)].decode("utf-8", "ignore")
    return f"{short}-{digest}".lstrip("-")


def short_digest(text: str) -> str:
    """Return 8 hex digits that tell a text from others which are written alike."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def counted(n: int, phrase: str, form: str = "") -> str:
    """Return a number with what it counts: a phrase in the plural, which is put into the singular for 1.

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
