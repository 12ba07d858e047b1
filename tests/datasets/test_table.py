from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import error_of, listed, put, served, zipped

from semscale.datasets.loader_registry import load_dataset

HERE = {"a.jpg": b"A", "b.jpg": b"B", "c.jpg": b"C"}


def table_spec(root: Path, text: str | bytes, name: str = "table.csv", **files: bytes) -> str:
    put(root, {**HERE, name: text if isinstance(text, bytes) else text.encode(), **files})
    return f"table:{root / name}"


# --- in archives and in cells


def test_images_in_the_rows_of_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": [b"A", b"B"], "class": ["x", "y"]}), tmp_path / "table.parquet")
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset("table:table.parquet")
    monkeypatch.chdir("/")  # as on a worker
    assert [dataset.reader.read(location) for location in dataset.samples.locations()] == [b"A", b"B"]
    assert dataset.samples[0].file == "table/0"


def test_images_in_the_rows_of_other_tables_are_rejected_with_what_to_do(tmp_path: Path) -> None:
    images = ["a.jpg", "b.jpg", "data:image/png;base64,iVBORw==", {"bytes": "iVBORw=="}]
    rows = [{"image": image, "class": name} for image, name in zip(images, "xyyy", strict=True)]
    dataset = load_dataset(table_spec(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "table.jsonl"))
    assert listed(dataset) == {"a.jpg": "x", "b.jpg": "y"}
    reason = "has the image as text; store images as bytes in Parquet"
    assert dataset.rejected == {f"table.jsonl line {n}": f"line {n} of table.jsonl: {reason}" for n in (3, 4)}


# --- remote


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    with served(put(tmp_path / "web", HERE)) as url:
        yield url


def test_urls_are_read_concurrently_and_names_have_no_keys(web: str, tmp_path: Path) -> None:
    rows = f"url,class\n{web}/a.jpg?sig=s3cr3t,x\n{web}/b.jpg,y\n{web}/none.jpg?sig=s3cr3t,y\n"
    dataset = load_dataset(table_spec(tmp_path / "t", rows))
    assert dataset.reader.parallel == 16  # type: ignore[attr-defined]
    reader = pickle.loads(pickle.dumps(dataset.reader))
    assert "s3cr3t" not in str(dataset.samples.files())
    assert [reader.read(location) for location in dataset.samples.locations()[:2]] == [b"A", b"B"]
    with pytest.raises(OSError, match=r"^no such file$"):
        reader.read(dataset.samples[2].location)


def test_images_of_a_remote_table_are_in_its_folder(web: str, tmp_path: Path) -> None:
    put(tmp_path / "web", {"table.csv": b"file,label\na.jpg,x\nb.jpg,y\n"})
    dataset = load_dataset(f"table:{web}/table.csv?sig=s3cr3t")
    assert [dataset.reader.read(location) for location in dataset.samples.locations()] == [b"A", b"B"]
    assert "s3cr3t" not in error_of(f"table:{web}/none.csv?sig=s3cr3t")


def test_a_table_and_its_images_on_any_file_system() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/far/table.jsonl": b'{"file": "a.jpg", "class": "x"}\n{"file": "b.jpg", "class": "y"}\n'})
    memory.pipe({"/far/a.jpg": b"A", "/far/b.jpg": b"B"})
    dataset = load_dataset("table:memory://far/table.jsonl")
    assert [dataset.reader.read(location) for location in dataset.samples.locations()] == [b"A", b"B"]
    assert dataset.reader.parallel == 16  # type: ignore[attr-defined]


@pytest.mark.parametrize("url", ["zip://a.jpg::{web}/x.zip", "http://[broken/a.jpg"])
def test_invalid_urls_are_rejected_alone(web: str, tmp_path: Path, url: str) -> None:
    rows = f"url,class\n{url.format(web=web)},x\n{web}/a.jpg,x\n{web}/b.jpg,y\n"
    dataset = load_dataset(table_spec(tmp_path / "t", rows))
    assert dataset.reader.read(dataset.samples[1].location) == b"A"
    with pytest.raises(OSError, match=r"chained|no such file"):
        dataset.reader.read(dataset.samples[0].location)


# --- columns


@pytest.mark.parametrize(
    "header", ["file,class", "FILE_NAME;Label", "Image Path\tspecies", '"filepath","category"', "true_class,image"]
)
def test_columns_and_delimiters_are_detected(tmp_path: Path, header: str) -> None:
    separator = next(mark for mark in ";\t," if mark in header)
    rows = ["a.jpg", "x"], ["b.jpg", "y"]
    if header.startswith("true"):
        rows = ["x", "a.jpg"], ["y", "b.jpg"]
    text = "\n".join([header, *(separator.join(row) for row in rows)])
    assert listed(load_dataset(table_spec(tmp_path, text))) == {"a.jpg": "x", "b.jpg": "y"}


@pytest.mark.parametrize(
    ("header", "options", "words"),
    [
        ("when,class", {}, ["column with the image cannot be determined", "'when', 'class'", "set image:"]),
        ("file,when", {}, ["column with the class cannot be determined", "set label:"]),
        ("file,label,class", {}, ["several columns", "'label', 'class'", "set label:"]),
        ("file,url,class", {}, ["several columns", "'file', 'url'", "set image:"]),
        ("file,breed", {"label": "bred"}, ["no column 'bred'", "'file', 'breed'", "did you mean label: breed?"]),
        ("file,breed,breed", {"label": "breed"}, ["several columns", "a unique name"]),
        ("a.jpg,x", {}, ["cannot be determined", "the first line of a CSV file names the columns"]),
    ],
)
def test_errors_of_ambiguous_columns_name_the_option(
    tmp_path: Path, header: str, options: dict[str, str], words: list[str]
) -> None:
    row = "a.jpg" + ",x" * header.count(",")
    message = error_of(table_spec(tmp_path, f"{header}\n{row}\n"), **options)
    assert all(word in message for word in [*words, "table.csv"]), message


def test_options_name_columns_and_dotted_fields(tmp_path: Path) -> None:
    lines = [
        {"img": {"file": f"{name}.jpg"}, "annotation": {"class": number, "x.y": "z"}}
        for number, name in enumerate("ab")
    ]
    spec = table_spec(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "table.jsonl")
    assert listed(load_dataset(spec, image="img.file", label="annotation.class")) == {"a.jpg": "0", "b.jpg": "1"}
    assert "'annotation.class'" in error_of(spec, image="img.file")


def test_class_from_needs_no_class_column(tmp_path: Path) -> None:
    spec = table_spec(tmp_path, "file\nx_1.jpg\ny_2.jpg\n", **{"x_1.jpg": b"1", "y_2.jpg": b"2"})
    assert listed(load_dataset(spec, class_from="{class}_{number}.jpg")) == {"x_1.jpg": "x", "y_2.jpg": "y"}


def test_a_split_column_chooses_the_rows(tmp_path: Path) -> None:
    spec = table_spec(tmp_path, "file,class,split\na.jpg,x,train\nb.jpg,y,train\nb.jpg,y,test\nc.jpg,x,test\n")
    dataset = load_dataset(spec)
    assert listed(dataset) == {"b.jpg": "y", "c.jpg": "x"}
    assert dataset.notes[0] == "of the splits test, train only 'test' is read; split: chooses another"
    assert listed(load_dataset(spec, split="train")) == {"a.jpg": "x", "b.jpg": "y"}
    assert len(load_dataset(spec, split="all").samples) == 3
    assert "no such split" in error_of(spec, split="val")
    assert "no splits" in error_of(table_spec(tmp_path, "file,class\na.jpg,x\n"), split="val")


# --- text


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_byte_order_mark_and_line_ends_do_not_matter(tmp_path: Path, mark: bytes, end: bytes) -> None:
    rows = mark + end.join([b"file,class", "a.jpg,Löwe".encode(), b"", b'b.jpg, "y, z"', b""])
    assert listed(load_dataset(table_spec(tmp_path, rows))) == {"a.jpg": "Löwe", "b.jpg": "y, z"}


def test_quoted_line_ends_keep_the_line_numbers_right(tmp_path: Path) -> None:
    spec = table_spec(tmp_path, 'file,class,remark\na.jpg,x,"one\ntwo"\nb.jpg,y,\nnone.jpg,y,"\n\n"\nc.jpg,x\n')
    assert "table.csv:8" in error_of(spec)
    spec = table_spec(tmp_path, 'file,class,remark\na.jpg,x,"one\ntwo"\nb.jpg,y,\nnone.jpg,y,"\n\n"\nc.jpg,x,\n')
    assert load_dataset(spec).rejected == {"none.jpg": "line 5 of table.csv: no such image"}


@pytest.mark.parametrize(
    ("content", "where", "words"),
    [
        (b"", "table.csv", ["the table is empty"]),
        (b"\n\n", "table.csv", ["the table is empty"]),
        (b"file,class\n", "table.csv", ["no images"]),
        (b"file,class\na.jpg,x\nb.jpg\n", "table.csv:3", ["the row has 1 cells where the first has 2"]),
        (b"file,class\na.jpg,x,y\n", "table.csv:2", ["3 cells", "the first has 2"]),
        (b"file,class\na.jpg,L\xf6we\n", "table.csv:2", ["not UTF-8", "byte 0xf6", "save it as UTF-8"]),
        ("file,class\na.jpg,x\n".encode("utf-16"), "table.csv:1", ["not UTF-8", "save it as UTF-8"]),
        ("file,class\na.jpg,x\n".encode("utf-16-le"), "table.csv:1", ["NUL byte", "UTF-16"]),
        (b"file,class\na.jpg,x\0\n", "table.csv:2", ["NUL byte"]),
        (b'file,class\na.jpg,x\nb.jpg,"y\nc.jpg,x\n', "table.csv:3", ["no CSV row", "close the quote"]),
        (b'file,class\na.jpg,"x"y\n', "table.csv:2", ["no CSV row"]),
        (
            b'file,class\na.jpg,"' + b"x\n" * 20_000,
            "table.csv:2",
            ["data (lines 2 to 20001)", "the quote"],
        ),
        (b"file,class\na.jpg," + b"x" * (33 * 2**20), "table.csv:2", ["field larger than", "Parquet"]),
        (b"file,class\na.jpg," + b"x," * 2**20, "table.csv:2", ["1048576 characters"]),
    ],
    ids=range(14),
)
def test_broken_text_is_an_error_with_file_and_line(
    tmp_path: Path, content: bytes, where: str, words: list[str]
) -> None:
    message = error_of(table_spec(tmp_path, content))
    assert f"{tmp_path / where}\n" in f"{message}\n"
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"file": "a.jpg"', ["no JSON"]),
        ('["a.jpg", "x"]', ["no JSON object", '["a.jpg", "x"]']),
        ("[" * 100_000, ["no JSON"]),
        ('{"file": ["a.jpg"], "class": "x"}', ["neither a path nor a URL", "list"]),
        ('{"file": {"x": 1}, "class": "x"}', ["neither a path nor a URL", "dict", "dotted path"]),
        ('{"file": "a.jpg", "class": {"x": 1}}', ["neither text nor a number", "dict", "dotted path"]),
        ('{"file": "a.jpg", "class": "\\ud800"}', ["not Unicode"]),
        ('{"file": "a\\u0000.jpg", "class": "x"}', ["NUL"]),
    ],
)
def test_broken_json_is_an_error_with_file_and_line(tmp_path: Path, line: str, words: list[str]) -> None:
    good = '{"file": "a.jpg", "class": "x"}\n'
    # beyond the lines from which the field names are read
    message = error_of(table_spec(tmp_path, good * 30 + "\n" + line + "\n", "table.jsonl"))
    assert f"where:    {tmp_path / 'table.jsonl'}:32\n" in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("rest", "words"),
    [("none.csv", "does not exist"), ("x.xlsx", "not supported"), ("none.jsonl", "does not exist")],
)
def test_missing_and_unknown_tables(tmp_path: Path, rest: str, words: str) -> None:
    assert words in error_of(f"table:{tmp_path / rest}")
    (tmp_path / "folder.csv").mkdir()
    assert "Is a directory" in error_of(f"table:{tmp_path / 'folder.csv'}")


# --- rows and images


def test_rows_without_image_are_rejected_with_their_line(tmp_path: Path) -> None:
    dataset = load_dataset(table_spec(tmp_path, "file,class\na.jpg,x\nnone.jpg,x\n,y\nb.jpg,y\n"))
    assert dataset.rejected == {
        "none.jpg": "line 3 of table.csv: no such image",
        "table.csv line 4": "line 4 of table.csv: names no image",
    }


def test_rows_without_class_and_images_without_row_are_warnings(tmp_path: Path) -> None:
    put(tmp_path, {"notes.txt": b"", "deep/other.jpg": b""})
    dataset = load_dataset(table_spec(tmp_path, "file,class\na.jpg,x\nb.jpg,\nc.jpg,y\n", **{"d.jpg": b"D"}))
    assert listed(dataset) == {"a.jpg": "x", "c.jpg": "y"}
    assert dataset.notes[:2] == (
        "1 row of table.csv has no class and is left out: line 3",
        "1 image has no line in table.csv and is left out: d.jpg",
    )


def test_images_without_row_are_listed_in_the_whole_image_folder(tmp_path: Path) -> None:
    put(tmp_path / "photos", {**HERE, "deep/d.jpg": b"D"})
    spec = table_spec(tmp_path, "file,class\na.jpg,x\nb.jpg,y\n")
    dataset = load_dataset(spec, images=str(tmp_path / "photos"))
    assert dataset.notes[0] == "2 images have no line in table.csv and are left out: c.jpg, deep/d.jpg"


def test_images_without_row_in_an_archive_are_warnings_and_missing_ones_rejected(tmp_path: Path) -> None:
    names = ("top/a.jpg", "top/b.jpg", "top/0007.PNG.jpg", "top/c.jpg")
    zipped(tmp_path / "i.zip", {name: name.encode() for name in names})
    spec = table_spec(tmp_path, "id,class\na,x\ntop/b.jpg,y\nnone,y\n")
    dataset = load_dataset(spec, images=str(tmp_path / "i.zip"))
    assert listed(dataset) == {"top/a.jpg": "x", "top/b.jpg": "y"}
    assert dataset.rejected == {"none": "line 4 of table.csv: no such image"}
    assert dataset.notes[0] == "2 images have no line in table.csv and are left out: top/0007.PNG.jpg, top/c.jpg"
    assert pickle.loads(pickle.dumps(dataset.reader)).read(dataset.samples[0].location) == b"top/a.jpg"


def test_a_table_without_existing_images_is_an_error_with_their_folder(tmp_path: Path) -> None:
    message = error_of(table_spec(tmp_path, "file,class\nphotos/1.jpg,x\nphotos/2.jpg,y\n"))
    assert "no photos/1.jpg (line 2 of table.csv)" in message
    assert f"images in {tmp_path}" in message
    assert "set images:" in message
    assert "does not exist" in error_of(table_spec(tmp_path, "file,class\na.jpg,x\n"), images=str(tmp_path / "none"))


def test_decomposed_names_of_files_are_found(tmp_path: Path) -> None:
    spec = table_spec(tmp_path, "file,class\ncaf\u00e9.jpg,x\nb.jpg,y\n", **{"cafe\u0301.jpg": b"E"})
    dataset = load_dataset(spec)
    assert [dataset.reader.read(location) for location in dataset.samples.locations()] == [b"E", b"B"]


def test_one_image_in_two_rows_counts_once(tmp_path: Path) -> None:
    dataset = load_dataset(table_spec(tmp_path, "file,class\na.jpg,x\n./a.jpg,y\nb.jpg,y\n"))
    assert listed(dataset) == {"a.jpg": "x", "b.jpg": "y"}
    assert "a.jpg ('x' and 'y')" in str(dataset.notes)
