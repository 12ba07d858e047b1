from __future__ import annotations

import csv
import hashlib
import io
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from made import InMemoryReader, put
from PIL import Image

from semscale.cli import main
from semscale.datasets.dataset import Dataset
from semscale.datasets.dataset_check import check_dataset
from semscale.datasets.loader_registry import load_dataset
from semscale.datasets.samples import Sample, SampleTable


def picture(
    seed: int, size: tuple[int, int] = (48, 40), mode: str = "RGB", form: str = "PNG", **options: object
) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise, "RGBA").convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Return a folder with an example of everything that a check reports."""
    exif = Image.Exif()
    exif[0x0112] = 6
    red, blue = Image.new("RGB", (48, 40), "red"), Image.new("RGB", (48, 40), "blue")
    buffer = io.BytesIO()
    red.save(buffer, "GIF", save_all=True, append_images=[blue])
    return put(
        tmp_path / "odd",
        {
            "garden_rose/a.png": picture(1),
            "garden_rose/b.jpg": picture(2, form="JPEG", exif=exif),
            "garden_rose/copy.png": picture(1),
            "garden_rose/cut.jpg": picture(3, form="JPEG")[:-200],
            "garden_rose/empty.png": b"",
            "tulip/clear.png": picture(4, mode="RGBA"),
            "tulip/opaque.png": picture(5, mode="RGB"),
            "tulip/moves.gif": buffer.getvalue(),
            "tulip/really_a_rose.png": picture(1),
            "tulip/tiny.png": picture(6, (9, 4)),
            "tulip/wide.png": picture(7, (900, 60), mode="L"),
            "weed/text.jpg": b"not a picture",
        },
    )


def check(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["datasets", "check", *arguments])
    return int(ended.value.code or 0)


def test_contents_are_counted_and_named(odd: Path) -> None:
    found = check_dataset(load_dataset(f"folder:{odd}"))
    document = found.to_json(0.01)
    assert [(row["class"], row["images"], row["quarantined"], row["sample"]) for row in document["classes"]] == [
        ("garden rose", 3, 2, "garden_rose/a.png"),
        ("tulip", 6, 0, "tulip/clear.png"),
        ("weed", 0, 1, None),
    ]
    assert document["formats"] == {"PNG": 7, "JPEG": 1, "GIF": 1}
    assert document["modes"] == {"RGB": 6, "RGBA": 1, "P": 1, "L": 1}
    assert (document["several_pictures"], document["turned_by_exif"], document["transparent"]) == (1, 1, 1)
    assert document["sizes"]["smallest"] == {"width": 9, "height": 4, "file": "tulip/tiny.png"}
    assert document["sizes"]["largest"] == {"width": 900, "height": 60, "file": "tulip/wide.png"}
    assert document["sizes"]["median"] == {"width": 48, "height": 40}
    assert (document["sizes"]["small"], document["sizes"]["long"]) == (1, 1)
    assert document["quarantine"] == [
        {"file": "garden_rose/cut.jpg", "reason": "cannot be decoded: image file is truncated"},
        {"file": "garden_rose/empty.png", "reason": "the file is empty"},
        {"file": "weed/text.jpg", "reason": "not an image that Pillow can read"},
    ]
    assert (document["images"], document["usable"], document["passes"]) == (12, 9, False)
    same = document["duplicates"]
    assert (same["copies"], same["pictures"], same["alike"]) == (2, 1, [])
    assert same["conflicts"] == [
        [
            {"file": "garden_rose/a.png", "class": "garden rose"},
            {"file": "garden_rose/copy.png", "class": "garden rose"},
            {"file": "tulip/really_a_rose.png", "class": "tulip"},
        ]
    ]


@pytest.mark.parametrize("threads", [1, 8])
def test_keys_are_those_of_the_store_and_progress_is_complete(odd: Path, threads: int) -> None:
    calls: list[tuple[int, int]] = []
    found = check_dataset(
        load_dataset(f"folder:{odd}"), threads=threads, progress=lambda done, total: calls.append((done, total))
    )
    for file, key in zip(found.dataset.samples.files(), found.keys, strict=True):
        assert key.tobytes() == hashlib.sha256((odd / file).read_bytes()).digest()
    assert calls[-1] == (12, 12)


def test_images_rotated_by_option_need_no_rotation(odd: Path) -> None:
    found = check_dataset(load_dataset(f"folder:{odd}", orientation="exif"))
    assert (found.counts["rotated"][True], found.sizes[1].tolist()) == (0, [40, 48])


def test_a_dataset_without_usable_images_does_not_pass(tmp_path: Path) -> None:
    found = check_dataset(load_dataset(f"folder:{put(tmp_path, {'a/1.png': b'', 'b/1.png': b'x'})}"))
    assert found.to_json(0.99)["sizes"] is None
    assert not found.passes(0.99)


def test_memory_does_not_grow_with_the_images() -> None:
    content = picture(1, (100, 100))
    n = 2_000
    samples = SampleTable.of(("a", "b"), (Sample(f"{i:06d}.png", "ab"[i % 2]) for i in range(n)))
    dataset = Dataset("many", "thing", ("a", "b"), samples, InMemoryReader(content))
    check_dataset(dataset.__class__("few", "thing", ("a", "b"), samples[:10], InMemoryReader(content)))
    tracemalloc.start()
    found = check_dataset(dataset, threads=2)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.positions) == n
    assert kept < 100 * n
    assert peak < 100 * n + 40 * len(content)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_window(
    odd: Path, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert check(f"folder:{odd}", "--domain", "flower") == 1
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    text = " ".join(shown.split())
    assert "odd: 12 images of 3 classes; domain: flower" in text
    assert "garden_rose/cut.jpg: cannot be decoded: image file is truncated" in text
    assert "1 picture under different classes" in text
    assert "3 of 12 images cannot be used (25 %)" in text


def test_the_allowed_share_decides_the_exit_status(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("shapes", "--limit", "24") == 0
    assert check(f"folder:{odd}", "--max-bad-fraction", "0.2") == 1
    assert check(f"folder:{odd}", "--max-bad-fraction", "0.25") == 0
    assert "a sweep continues without them" in capsys.readouterr().out


def test_json_goes_to_standard_output_and_the_quarantine_to_a_file(
    odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(f"folder:{odd}", "--json", "--quarantine", str(tmp_path / "new" / "bad.csv")) == 1
    rows = list(csv.reader((tmp_path / "new" / "bad.csv").read_text().splitlines()))
    assert rows[0] == ["dataset", "file", "reason"]
    assert rows[1] == ["odd", "garden_rose/cut.jpg", "cannot be decoded: image file is truncated"]
    assert len(rows) == 4
    document = json.loads(capsys.readouterr().out)
    assert document["passes"] is False
    assert document["datasets"][0]["spec"] == f"folder:{odd}"
    assert document["datasets"][0]["usable"] == 9


def test_a_study_file_is_checked_with_its_own_entries(
    odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        f"datasets:\n- {{spec: shapes, per_class: 2}}\n- {{spec: 'folder:{odd}', name: flowers, domain: flower}}\n"
        "strategies: [prompts]\nsteps: 3\nmax_bad_fraction: 0.3\n"
    )
    assert check(str(study), "--json", "--limit", "20", "--sheet", str(tmp_path / "sheet.png")) == 0
    document = json.loads(capsys.readouterr().out)["datasets"]
    assert [(one["dataset"], one["domain"], one["images"]) for one in document] == [
        ("shapes", "shape", 20),
        ("flowers", "flower", 12),
    ]
    for name in ("shapes", "flowers"):
        with Image.open(tmp_path / f"sheet-{name}.png") as sheet:
            assert sheet.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shapez"], "did you mean 'shapes'"),
        (["nowhere.yaml"], "study file cannot be read"),
        (["shapes", "--sheet", "x.png", "--strategy", "promptz"], "did you mean prompts"),
        (["shapes", "--sheet", "/proc/nowhere/x.png"], "the file cannot be written"),
        (["STUDY", "--domain", "x"], "cannot be combined with a study file"),
    ],
)
def test_options_are_validated_before_images_are_read(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "study.yaml"
    study.write_text("datasets: [shapes]\n")
    assert check(*(str(study) if one == "STUDY" else one for one in arguments)) == 1
    shown = capsys.readouterr()
    assert words in shown.err
    assert "reading" not in shown.err
    assert not list(tmp_path.glob("*.png"))


def test_long_lists_of_classes_are_truncated_without_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, {f"class_{i}/1.png": picture(i, (4, 4)) for i in range(45)})
    assert check(f"folder:{tmp_path}") == 0
    short = capsys.readouterr().out
    assert "class_39/1.png" in short
    assert "class_40/1.png" not in short
    assert "and 5 more classes" in short
    assert check(f"folder:{tmp_path}", "--all") == 0
    assert "class_44/1.png" in capsys.readouterr().out


def test_unprintable_names_are_escaped_in_terminal_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("a [bold]x[!]/1.png", "b/line\nbreak\x1b[31m.png", "b/caf\udce9.png", "b/note\udcff.txt")
    put(tmp_path, {name: picture(number) for number, name in enumerate(names)})
    assert check(f"folder:{tmp_path}") == 1
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "a [bold]x[!]" in shown
    assert "its name is not in UTF-8" in shown
    assert check(f"folder:{tmp_path}", "--json") == 1
    assert json.loads(capsys.readouterr().out)["datasets"][0]["usable"] == 2


def test_datasets_without_a_command_lists_the_specs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(["datasets"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for spec in ("shapes", "folder:", "zip:", "tar:", "table:", "webdataset:", "parquet:", "hf:", "torchvision:"):
        assert spec in shown
    assert max(map(len, shown.splitlines())) <= 80
