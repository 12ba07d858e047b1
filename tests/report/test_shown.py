"""The parts of the report that show images, categories and surroundings, with and without them."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from test_page import NASTY, page_of, tables, words

from semscale.report.evidence import CategorySet, Evidence

CURVE = {"model": "m", "strategy": "a", "aggregation": "max", "scale": 2}


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def evidence(name: str, n_classes: int = 2) -> Evidence:
    place = {"dataset": name, **CURVE}
    classes = [f"{name} {i}" for i in range(n_classes)]
    flips = pd.DataFrame(
        {
            "direction": ["gained"] * 10 + ["lost"],
            "n": [40] * 10 + [1],
            "file": [f"{name}/{i}.png" for i in range(11)],
            "true_class": name,
            "before": "old",
            "after": "new",
        }
    ).assign(**place)
    winners = pd.DataFrame({"category": [f"{name} text", "other"], "class": classes[:2], "share": [0.75, 0.25]}).assign(
        images=[15, 5], right=[12, 5], gained=[40, 0], lost=[0, 1], **place
    )
    confusions = pd.DataFrame(
        {"true_class": classes, "predicted_class": [*classes[1:], classes[0]], "before": 3, "after": 1}
    ).assign(**place)
    points = pd.DataFrame(
        {"dataset": name, "model": "m", "strategy": "a", "kind": ["image", "category"], "label": name}
    ).assign(**{"class": classes[0], "x": [0.1, 0.2], "y": [0.3, 0.4], "variance": 0.5})
    return Evidence(
        flips=flips,
        thumbnails=pd.DataFrame({"dataset": [name], "file": [f"{name}/0.png"], "picture": [picture()]}),
        winners=winners,
        confusions=confusions,
        points=points,
        quarantine=pd.DataFrame({"dataset": [name], "file": [f"{name}.png"], "reason": ["the file is empty"]}),
        categories=[CategorySet(name, "a", [1, 2], {name: [name, "more"]}, 30, [f"note {name}"])],
        environment={
            "semscale": "0.0.9",
            "python": "3.11",
            "system": name,
            "packages": {"numpy": "2.4"},
            "models": {name: {"encoder": "e-1", "weights_sha256": "abc", "dtype": "fp32"}},
            "servers": ["grpc://***@gpu1:51000"],
            "orders": [0, 1],
            "seeds": {name: 7},
            "margin": 0.5,
        },
    )


def test_every_part_is_there(tmp_path: Path) -> None:
    page = page_of(tmp_path, tables("pets"), evidence=evidence("pets"))
    said = words(page)
    for part in (
        "40 gained, 1 lost",
        "40 images; by pets text 40",
        "1 image; by other 1",
        "old → new",
        "pets text pets 0 75.0 % 80 % 40 0",
        "pets 0 pets 1 3 1 -2",
        "1 images, 1 texts of a; 50 % of the variance",
        "pets more",
        "and 29 more classes",
        "note pets",
        "1 image could not be used",
        "0.0.9 (this page:",
        "weights SHA-256 abc",
        "grpc://***@gpu1:51000",
        "pets 7",
        f"semscale sweep {tmp_path}/study.yaml",
    ):
        assert part in said.replace(" · ", " "), part
    # eight images of the ten are shown, of which one has a picture
    assert page.count("<li><span") == 8
    assert base64.b64encode(picture()).decode() in page


def test_confusion_is_a_tiny_picture_where_the_classes_are_few(tmp_path: Path) -> None:
    def matrices(n: int) -> list[Any]:
        found = re.findall(
            r"data:image/png;base64,([^\"]+)", page_of(tmp_path, tables("pets"), evidence=evidence("pets", n))
        )
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]

    before, after = matrices(5)
    assert before.shape == (5, 5, 3)
    assert (before == after).all()  # shares of a row's images, and each class has one confusion only
    assert len(np.unique(before.reshape(-1, 3), axis=0)) == 2
    assert not matrices(41)


def test_nothing_but_the_tables_is_needed(tmp_path: Path) -> None:
    page = page_of(tmp_path, tables("pets")).partition("<script")[0]
    for part in ("What changed", "Images and category texts", "Category sets", 'id="quarantine"', "<img"):
        assert part not in page


def test_names_in_the_evidence_are_escaped(tmp_path: Path) -> None:
    page = page_of(tmp_path, tables(NASTY), evidence=evidence(NASTY))
    assert page.count("<script") == page.count("</script>") == 3
    assert "<b>" not in page.partition('<script type="module">')[0]
    assert "&lt;script&gt;" in page
