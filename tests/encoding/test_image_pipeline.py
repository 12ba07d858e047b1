"""Image pipeline: the pixels of open_clip's transform, and drafts."""

import io

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from semscale.common.errors import ServerError
from semscale.datasets.image_decoding import BadImageError, decode
from semscale.encoding.image_pipeline import can_prepare, check_draft, draft_side, prepare, to_ppm
from semscale.store.encoder_fingerprint import EncoderIdentity


def picture(mode: str, size: tuple[int, int], form: str = "PNG") -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "1", "CMYK"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_equal_open_clips_transform(mode: str, resize_mode: str, interpolation: str) -> None:
    spec = {"size": [48, 48], "mode": "RGB", "interpolation": interpolation, "resize_mode": resize_mode}
    transform = image_transform_v2(PreprocessCfg(**spec), is_train=False)
    assert can_prepare(spec)
    for size in [(200, 120), (119, 333), (64, 64), (20, 31), (65, 48)]:
        content = picture(mode, size, "TIFF" if mode == "CMYK" else "PNG")
        sent = to_ppm(prepare(decode(content), spec))
        direct, received = (transform(Image.open(io.BytesIO(file))) for file in (content, sent))
        assert np.array_equal(direct.numpy(), received.numpy()), size


def test_unknown_preprocessing_sends_whole_files() -> None:
    assert not can_prepare(None)
    assert not can_prepare({"size": 48, "interpolation": "random"})
    assert not can_prepare({"size": 48, "interpolation": "bicubic", "resize_mode": "longest"})
    assert not can_prepare({"size": [48, 64], "interpolation": "bicubic", "resize_mode": "shortest"})


def test_a_draft_is_smaller_and_nearly_the_same_image() -> None:
    ramp = np.linspace(0, 255, 1200).astype(np.uint8)
    photograph = np.stack([np.tile(ramp, (900, 1)), np.tile(ramp[:900, None], (1, 1200)), np.full((900, 1200), 90)], -1)
    photograph[200:700, 300:800, 0] ^= 255
    buffer = io.BytesIO()
    Image.fromarray(photograph.astype(np.uint8)).save(buffer, "JPEG", quality=92)
    spec = {"size": 64, "interpolation": "bicubic"}
    whole, draft = decode(buffer.getvalue()), decode(buffer.getvalue(), draft_side(spec))
    assert whole.size == (1200, 900)
    assert draft_side(spec) <= min(draft.size) < 900
    difference = np.abs(prepare(whole, spec).astype(int) - prepare(draft, spec).astype(int))
    assert 0 < difference.max() <= 40
    assert difference.mean() < 1
    lossless = picture("RGB", (500, 400))
    assert decode(lossless, 32).tobytes() == decode(lossless).tobytes()


def test_drafts_need_known_preprocessing() -> None:
    info = {"preprocess": {"size": 64, "interpolation": "bicubic"}}
    check_draft(EncoderIdentity.of("m", None, 2), "m")
    check_draft(EncoderIdentity.of("m", info, 2, draft=True), "m")
    with pytest.raises(ServerError, match="draft decoding needs"):
        check_draft(EncoderIdentity.of("m", None, 2, draft=True), "m")


def test_an_image_too_thin_to_be_resized_is_an_error() -> None:
    with pytest.raises(BadImageError, match="too long"):
        prepare(Image.new("L", (1, 60_000)), {"size": 224, "interpolation": "bicubic"})
