"""Categories from the command line and from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from semscale.common.errors import SemscaleError
from semscale.label.text_input import read_categories, split_categories


def test_lists_of_categories() -> None:
    names, notes = split_categories(' cat ,a black dog, "bird, small", "say ""hi""", "  fish " ')
    assert names == ("cat", "a black dog", "bird, small", 'say "hi"', "fish")
    assert not notes
    names, notes = split_categories("cat,dog, cat,cat")
    assert names == ("cat", "dog")
    assert notes == ["the category 'cat' is repeated in --categories and counts once"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "no categories"),
        (" , ,", "no categories"),
        ("cat,,dog", "number 2 of 3"),
        ("cat,", "a category is empty"),
        ('cat,"dog', "not a comma-separated list"),
        ("cat\ndog", "not a comma-separated list"),
        ("cat,\udce4", "not UTF-8"),
    ],
)
def test_invalid_lists_are_errors(given: str, words: str) -> None:
    with pytest.raises(SemscaleError) as caught:
        split_categories(given)
    assert words in str(caught.value)
    assert "--categories" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", "\ufeffcat\n\n  Hund, groß \r\ncat\n"),
        ("c.json", '["cat", " Hund, groß", "cat"]'),
        ("c.csv", 'cat,1\n"Hund, groß",2\n\ncat,3\n'),
        ("c.csv", 'category;n\ncat;1\n"Hund, groß";2\ncat;3\n'),
        ("c.CSV", 'Category,fraction\ncat,0.5\n"Hund, groß",0.5\ncat,\n'),
    ],
)
def test_files(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    names, notes = read_categories(tmp_path / name)
    assert names == ("cat", "Hund, groß")
    assert notes == [f"the category 'cat' is repeated in {tmp_path / name} and counts once"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.yaml", b"- cat", "not supported"),
        ("c.txt", None, "does not exist"),
        ("c.json", b'{"cat": 1}', "not a list of texts"),
        ("c.json", b"[1]", "not a list of texts"),
        ("c.json", b"[", "cannot be read"),
        ("c.txt", b"caf\xe9", "not UTF-8"),
        ("c.txt", b"\n\n", "no categories"),
        ("c.csv", b"category\n", "no categories"),
        ("c.csv", b'cat\n"dog', "cannot be read"),
        ("c.csv", b"cat,1\n,2\n", "a category is empty"),
        ("c.csv", b"cat\ndog, small\n", "the row has 2 cells where the first has 1"),
    ],
)
def test_invalid_files_are_errors(name: str, content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SemscaleError) as caught:
        read_categories(tmp_path / name)
    assert words in str(caught.value)
    assert name in str(caught.value)
