"""In-process encoder: the rows of a server of the same model, bit for bit, in the same store."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import study_from
from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset
from semscale.encoding.backends import InProcess
from semscale.encoding.distributed_encoder import DistributedEncoder
from semscale.encoding.server_discovery import Servers
from semscale.encoding.store_backed_encoder import StoreBackedEncoder, TooManyBadImagesError
from semscale.encoding.verification import identify_encoder
from semscale.models.model_encoder import InProcessModel
from semscale.store.mirrored_directory import MirroredDirectory

TEXTS = [f"a picture of the number {i}" for i in range(70)] + ["dog", "ein Hund", "犬"]
STUDY = study_from({"encoder": "local"})


def backend(store: Path) -> InProcess:
    return InProcess(STUDY, "semscale-mini", MirroredDirectory.of(store), SilentReporter())


def local(store: Path) -> StoreBackedEncoder:
    return backend(store).open()


def png(color: tuple[int, int, int], size: tuple[int, int] = (50, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def damaged(tmp_path: Path) -> Dataset:
    folder = tmp_path / "images"
    for name, content in {
        "cat/1.png": png((200, 10, 10)),
        "cat/2.png": b"no image at all",
        "cat/copy.png": b"no image at all",
        "cat/thin.png": png((1, 2, 3), (40000, 1)),
        "dog/1.png": png((10, 10, 200), (300, 20)),
        "dog/same.png": png((200, 10, 10)),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return load_dataset(f"folder:{folder}")


@pytest.mark.usefixtures("ray_session")
def test_it_shares_the_store_with_the_distributed_encoder(mini_server: str, tmp_path: Path, damaged: Dataset) -> None:
    digits = load_dataset("digits", per_class=8)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    identity = identify_encoder(Servers([mini_server]), "semscale-mini", theirs)
    with DistributedEncoder(identity, Servers([mini_server]), theirs, actors=1) as server:
        served, served_bad = server.encode_images(digits), server.encode_images(damaged)
        server.encode_texts(TEXTS)
        pictures, texts = server.image_embeddings(served.keys), server.text_embeddings(TEXTS)
    here = local(ours)
    found, found_bad = here.encode_images(digits), here.encode_images(damaged)
    assert here.encode_texts(TEXTS) == len(TEXTS)
    assert here.identity == identity
    assert np.array_equal(here.image_embeddings(found.keys), pictures)
    assert np.array_equal(here.text_embeddings(TEXTS), texts)
    assert np.array_equal(found.positions, served.positions)
    assert found_bad.quarantine == served_bad.quarantine
    assert (found.sent, found_bad.sent) == (80, 2)
    # in the same folder, so nothing is encoded again
    other = local(theirs)
    assert other.identity == identity
    assert other.encode_images(digits).sent == 0
    assert other.encode_texts(TEXTS) == 0


def test_bad_images_go_into_the_quarantine(tmp_path: Path, damaged: Dataset) -> None:
    encoder = local(tmp_path / "store")
    seen: list[tuple[int, int]] = []
    found = encoder.encode_images(damaged, lambda done, total: seen.append((done, total)))
    assert sorted(found.quarantine) == ["cat/2.png", "cat/copy.png", "cat/thin.png"]
    assert "too long" in found.quarantine["cat/thin.png"]
    assert found.sent == 2  # two of the three good ones are the same picture
    assert seen[-1] == (6, 6)
    assert np.allclose(np.linalg.norm(encoder.image_embeddings(found.keys), axis=1), 1.0)
    with pytest.raises(TooManyBadImagesError):
        encoder.encode_images(damaged, max_bad=2)


def test_bad_texts_are_named(tmp_path: Path) -> None:
    encoder = local(tmp_path / "store")
    rejected: dict[str, str] = {}
    encoder.encode_texts(["dog", "  ", "w" * 20_001], rejected=rejected)
    assert rejected["  "] == "the text is empty"
    assert len(rejected) == 2
    with pytest.raises(SemscaleError, match="cannot be encoded"):
        encoder.encode_texts(["  "])
    assert encoder.text_embeddings(["dog"]).shape == (1, encoder.identity.dimension)


def test_a_row_that_is_not_finite_stops_the_encoding_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits, encode = load_dataset("digits", limit=20), InProcessModel.encode_images

    def odd(model: InProcessModel, pictures: Any) -> Any:
        rows, reasons = encode(model, pictures)
        rows[3:4] = np.nan
        return rows, reasons

    with monkeypatch.context() as patch:
        patch.setattr(InProcessModel, "encode_images", odd)
        with pytest.raises(SemscaleError, match="an image has no embedding") as caught:
            local(tmp_path).encode_images(digits)
    assert (caught.value.where, caught.value.found) == (
        digits.samples[3].file,
        "the model gave an embedding that is not finite",
    )
    found = local(tmp_path).encode_images(digits)
    assert (found.sent, len(found.keys)) == (1, 20)


def test_what_was_encoded_before_an_interruption_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semscale.encoding.local_encoder._CHUNK", 16)
    digits = load_dataset("digits", limit=60)

    def stop(done: int, total: int) -> None:
        if done > 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local(tmp_path).encode_images(digits, stop)
    found = local(tmp_path).encode_images(digits)
    assert 0 < found.sent < len(found.keys) == 60


def test_a_model_whose_rows_are_all_stored_is_not_loaded(tmp_path: Path) -> None:
    local(tmp_path).encode_texts(TEXTS)
    model = backend(tmp_path)
    assert model.open().encode_texts(TEXTS) == 0
    assert model._loaded is None
    # once loaded, it must give the same embeddings
    (record,) = tmp_path.glob("*/encoder.json")
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"probe": [[-number for number in row] for row in content["probe"]]}))
    with pytest.raises(SemscaleError, match="other embeddings"):
        model.load()


def test_neither_jina_nor_ray_is_needed(tmp_path: Path) -> None:
    code = f"""
import sys
from semscale.config import study_from
from semscale.store.mirrored_directory import MirroredDirectory
from semscale.encoding.backends import open_encoder
from semscale.common.progress import SilentReporter
study, store = study_from({{"encoder": "local"}}), MirroredDirectory.of({str(tmp_path)!r})
with open_encoder(study, "semscale-mini", store, SilentReporter()) as encoder:
    encoder.encode_texts(["dog"])
print(*sorted({{"jina", "ray", "docarray", "clip_client", "clip_server", "mlflow"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=True)
    assert done.stdout.strip() == ""
