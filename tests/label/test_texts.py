"""Text input: every format, and the lines of unusable rows."""

from __future__ import annotations

import json
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest

from semscale.common.errors import SemscaleError
from semscale.label.text_input import read_texts


def rows(folder: Path, name: str, content: str | bytes, column: str | None = None) -> list[tuple[int, str, str | None]]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [tuple(row) for row in read_texts(str(path), column)]


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("a.csv", 'id,Text\r\n1,one\r\n2,"two, with a comma"\r\n', None),
        ("a.csv", '\ufefftext\none\n"two, with a comma"\n', None),
        ("a.csv", "id;Text\n1;one\n2;two, with a comma\n", None),
        ("a.tsv", "id\treview\n1\tone\n2\ttwo, with a comma", "review"),
    ],
)
def test_a_column_of_a_table(name: str, content: str, column: str | None, tmp_path: Path) -> None:
    assert rows(tmp_path, name, content, column) == [(2, "one", None), (3, "two, with a comma", None)]


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("a.csv", "one\ntwo\n", None),
        ("a.txt", "one\r\ntwo", None),
        ("a.jsonl", '"one"\n{"text": "two", "id": 2}\n', None),
        ("a.ndjson", '{"body": "one"}\n{"body": "two"}\n', None),
        ("a.jsonl", '{"id": "x", "body": "one"}\n{"body": "two"}\n', "body"),
    ],
)
def test_texts_without_a_header(name: str, content: str, column: str | None, tmp_path: Path) -> None:
    """In a single column every line is a text, as in the original tool."""
    assert rows(tmp_path, name, content, column) == [(1, "one", None), (2, "two", None)]


def test_unusable_texts_are_rejected_with_their_lines(tmp_path: Path) -> None:
    content = b'id,text\n1,good\n2,\n3\n4,a,b\n5,"two\nlines"\n6,caf\xe9\n7,a\0b\n8,"quote"x\n\n9,good\n'
    content += b'10,"never closed\nmore\n'
    found = rows(tmp_path, "a.csv", content)
    assert [(line, text) for line, text, reason in found if reason is None] == [
        (2, "good"),
        (6, "two\nlines"),
        (12, "good"),
    ]
    reasons = {line: reason for line, _, reason in found if reason is not None}
    assert reasons[3] == "the text is empty"
    assert reasons[4] == "the row has 1 cells where the first has 2"
    assert reasons[5] == "the row has 3 cells where the first has 2"
    assert reasons[8] == "the text is not UTF-8: byte 0xe9"
    assert "NUL" in str(reasons[9])
    assert "lines 10 to 10" in str(reasons[10])
    assert reasons[11] == "the text is empty"
    assert "unexpected end of data (lines 13 to 14)" in str(reasons[13])
    assert len(found) == 11


def test_json_lines_without_text(tmp_path: Path) -> None:
    lines = ['{"text": "good"}', "{", '{"text": 3}', "[1]", "", '{"x": "y"}', r'{"text": "\ud800"}', "[" * 100_000]
    found = rows(tmp_path, "a.jsonl", "\n".join(lines))
    assert [reason is None for _, _, reason in found] == [True] + [False] * 7
    assert [str(reason).partition(":")[0] for _, _, reason in found[1:]] == [
        "no JSON",
        "no text in text",
        "no text in text",
        "the text is empty",
        "no text in text",
        "the text is not Unicode",
        "no JSON",
    ]


@pytest.mark.parametrize(
    ("name", "content", "column", "words"),
    [
        ("a.csv", "id,body\n1,x\n", None, "set it with --column"),
        ("a.csv", "id;body\n1;x\n", None, "set it with --column"),
        ("a.csv", "id,body\n1,x\n", "text", "the column 'text' does not exist"),
        ("a.jsonl", '{"id": 1, "body": "x"}', None, "set it with --column"),
    ],
)
def test_an_ambiguous_column_is_an_error(
    name: str, content: str, column: str | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(SemscaleError) as caught:
        rows(tmp_path, name, content, column)
    assert words in str(caught.value)


def test_a_line_without_end_needs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\n" + b"x" * 30_000_000 + b"\nalso good\n")
    tracemalloc.start()
    found = list(read_texts(str(path), None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(row.line, row.value[:9], row.fault) for row in found] == [
        (1, "good", None),
        (2, "", "the line has 1048576 characters or more"),
        (3, "also good", None),
    ]
    assert peak < 10_000_000


def test_rows_are_yielded_lazily(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "".join(f"row {i}\n" for i in range(50_000)))
    tracemalloc.start()
    first = list(islice(read_texts(str(path), None), 3))
    total = sum(1 for _ in read_texts(str(path), None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [row.value for row in first] == ["row 0", "row 1", "row 2"]
    assert total == 50_000
    assert peak < 2_500_000


def test_a_file_that_cannot_be_read_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match="does not exist"):
        list(read_texts(str(tmp_path / "a.csv"), None))


def test_jsonl_keeps_unicode_unchanged(tmp_path: Path) -> None:
    assert rows(tmp_path, "a.jsonl", json.dumps({"text": "日本 ☂ 😀"}))[0][1] == "日本 ☂ 😀"
