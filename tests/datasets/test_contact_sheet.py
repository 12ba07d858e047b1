from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made import InMemoryReader
from PIL import Image, ImageFont

from semscale.common.errors import SemscaleError
from semscale.datasets.contact_sheet import MAX_CLASSES, draw_sheet, save_sheet, wrap
from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset
from semscale.datasets.samples import Sample, SampleTable

RED, BLUE = (250, 10, 20), (10, 20, 250)


def plain(colour: tuple[int, ...], size: tuple[int, int] = (40, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def dataset(pictures: Mapping[str, bytes], classes: tuple[str, ...]) -> Dataset:
    """Return a dataset whose files are named class/number."""
    samples = SampleTable.of(classes, (Sample(file, file.partition("/")[0]) for file in pictures))
    return Dataset("made", "thing", classes, samples, InMemoryReader(pictures))


def sheet(data: Dataset, categories: Mapping[str, list[str]] | None = None, **options: int) -> Image.Image:
    return draw_sheet(data, np.arange(len(data.samples)), categories or {}, **options)


def count(drawn: Image.Image, colour: tuple[int, ...]) -> int:
    return int((np.asarray(drawn) == colour).all(axis=2).sum())


def test_the_same_sheet_every_time_and_another_for_another_seed() -> None:
    shapes = load_dataset("shapes", per_class=4)
    one, again, other = sheet(shapes), sheet(shapes), sheet(shapes, seed=1)
    assert one.tobytes() == again.tobytes()
    assert one.size == other.size
    assert one.tobytes() != other.tobytes()


def test_the_sheet_does_not_depend_on_the_order_of_the_listing() -> None:
    files = {f"{name}/{i}": plain((20 * i, 100, 0 if name == "a" else 200)) for name in "ab" for i in range(12)}
    turned = dict(reversed(files.items()))
    counted = [sorted(sheet(dataset(each, ("a", "b"))).getcolors(2**24) or ()) for each in (files, turned)]
    assert counted[0] == counted[1]


@pytest.mark.parametrize(
    ("first", "second", "red", "blue"),
    [
        (plain(RED, (2, 2)), plain(BLUE, (4000, 400)), 110 * 110, 110 * 11),
        (plain((*RED, 0)), plain(BLUE), 110 * 110, 110 * 110),  # the colours beneath transparency, as a model sees them
        (plain(RED, (30_000, 2)), plain(BLUE, (1, 9_000)), 110, 110),
    ],
)
def test_pictures_are_shown_whole_and_enlarged_when_tiny(first: bytes, second: bytes, red: int, blue: int) -> None:
    drawn = sheet(dataset({"a/1": first, "b/1": second}, ("a", "b")))
    assert (count(drawn, RED), count(drawn, BLUE)) == (red, blue)


def test_missing_images_and_empty_classes_keep_their_rows() -> None:
    full = sheet(dataset({"a/1": plain(RED), "b/1": plain(BLUE)}, ("a", "b")))
    gone = dataset({"a/1": plain(RED), "b/1": b"broken"}, ("a", "b"))
    empty = sheet(dataset({"a/1": plain(RED)}, ("a", "b")))
    assert full.size == empty.size == sheet(gone).size
    assert sheet(replace(gone, reader=InMemoryReader({"b/1": b"broken"}))).size == full.size
    assert count(empty, BLUE) == 0


def test_only_usable_images_are_shown() -> None:
    data = dataset({"a/1": plain(RED), "a/2": plain(BLUE), "b/1": plain(RED)}, ("a", "b"))
    assert count(draw_sheet(data, np.array([0, 2]), {}), BLUE) == 0


def test_many_classes_are_truncated_and_the_omitted_ones_counted() -> None:
    def of(n: int) -> Image.Image:
        classes = tuple(f"class {i}" for i in range(n))
        return sheet(dataset({f"{classes[0]}/1": plain(RED)}, classes), per_class=1)

    whole, cut, more = of(MAX_CLASSES), of(MAX_CLASSES + 1), of(MAX_CLASSES + 900)
    assert whole.height < cut.height == more.height < whole.height + 100
    assert cut.tobytes() != more.tobytes()


def test_long_texts_increase_the_height_of_a_row_up_to_a_limit() -> None:
    data = dataset({"a/1": plain(RED), "b/1": plain(BLUE)}, ("a", "b"))
    short = sheet(data, {"a": ["a", "an a"]})
    long = sheet(data, {"a": [f"a photograph of the {i}th letter of the alphabet, large" for i in range(12)]})
    endless = sheet(data, {"a": [f"a photograph of the {i}th letter of the alphabet, large" for i in range(5_000)]})
    assert short.height < long.height == endless.height < short.height + 150
    assert short.width == long.width


def test_names_of_every_kind_can_be_drawn() -> None:
    names = ("x" * 300, "line\nbreak\x1b[31m", "Ελληνικά ünïcode عربى", "a" + " word" * 80, "花")
    drawn = sheet(dataset({f"{name}/1": plain(RED) for name in names}, names), {name: [name] * 3 for name in names})
    assert count(drawn, RED) == len(names) * 110 * 110


@pytest.mark.parametrize("width", [40, 90, 300])
def test_wrapped_lines_fit_and_lose_nothing(width: int) -> None:
    font = ImageFont.load_default(15)
    assert isinstance(font, ImageFont.FreeTypeFont)
    text = "dog dogs a rather large dog Donaudampfschifffahrtsgesellschaft x"
    lines = wrap(text, width, font)
    assert all(font.getlength(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == text.replace(" ", "")


def test_a_sheet_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match="contact sheet cannot be written"):
        save_sheet(Image.new("RGB", (2, 2)), tmp_path / "missing" / "sheet.png")
