from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import InMemoryReader
from PIL import Image, ImageOps

from semscale.datasets.image_decoding import (
    MAX_PIXELS,
    BadImageError,
    ExifOrientedReader,
    decode,
    exif_orientation,
    load,
)

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # pytest undoes the filter that image_decoding.py sets

NOISE = np.random.default_rng(5).integers(0, 256, (40, 60, 4), dtype=np.uint8)
RAMP = np.arange(40 * 60, dtype=np.uint32).reshape(40, 60)


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(NOISE, "RGBA").convert(mode)


def tagged(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_png_of_any_mode_decodes_in_its_mode(mode: str) -> None:
    image = Image.fromarray(RAMP.astype(np.uint16)) if mode == "I;16" else noise(mode)
    decoded = decode(encode(image, "PNG"))
    if mode == "I;16":
        assert decoded.mode == "L"
        assert np.array_equal(np.asarray(decoded), RAMP >> 8)
    else:
        assert decoded.mode == mode
        assert np.array_equal(np.asarray(decoded), np.asarray(image))


def test_palette_with_transparency_keeps_its_colours() -> None:
    image = noise("RGB").quantize(16)
    for transparency in (3, bytes(range(16))):
        decoded = decode(encode(image, "PNG", transparency=transparency))
        assert decoded.mode == "P"
        assert np.array_equal(np.asarray(decoded.convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("mode", "form"), [("CMYK", "JPEG"), ("YCbCr", "TIFF"), ("LAB", "TIFF"), ("CMYK", "TIFF")])
def test_other_colour_spaces_become_rgb_afterwards(mode: str, form: str) -> None:
    decoded = decode(
        encode(Image.new(mode, (8, 8), (120, 128, 128, 0)[: len(Image.new(mode, (1, 1)).getbands())]), form)
    )
    assert decoded.mode == mode
    assert decoded.convert("RGB").size == (8, 8)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_sixteen_bit_grey_keeps_its_upper_bits(form: str) -> None:
    grey = (RAMP * 27).astype(np.uint16)
    assert np.array_equal(np.asarray(decode(encode(Image.fromarray(grey), form))), grey >> 8)


def test_big_endian_sixteen_bit_tiff() -> None:
    grey = (RAMP * 27).astype(">u2")
    content = tiff(grey.tobytes(), bits=16, order=">")
    assert load(content).mode == "I;16B"
    assert np.array_equal(np.asarray(decode(content)), grey >> 8)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [(RAMP.astype(np.int32), "32-bit"), (RAMP.astype(np.float32) / 2400, "floating-point")],
)
def test_pixels_without_a_defined_range_are_rejected(pixels: Any, reason: str) -> None:
    with pytest.raises(BadImageError, match=f"{reason}.*no stated range"):
        decode(encode(Image.fromarray(pixels), "TIFF"))


def test_sixteen_bit_colour_keeps_its_upper_bits() -> None:
    values = (NOISE[..., :3].astype(np.uint16) << 8) + 77
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = png(60, 40, rows, depth=16, colour=2)
    assert np.array_equal(np.asarray(decode(content)), NOISE[..., :3])


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied_only_by_option(form: str, turn: int) -> None:
    small = noise().resize((12, 9))
    options = {} if form == "PNG" else {"quality": 95}
    content = encode(small, form, exif=tagged(turn), **options)
    stored = decode(content)
    assert stored.size == (12, 9)
    assert exif_orientation(stored) == turn
    upright = decode(ExifOrientedReader(InMemoryReader(content)).read(""))
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(upright), np.asarray(ImageOps.exif_transpose(image)))
    assert exif_orientation(upright) == 1


def test_tiff_is_rotated_once() -> None:
    content = encode(noise().resize((12, 9)), "TIFF", exif=tagged(6))
    assert decode(content).size == decode(ExifOrientedReader(InMemoryReader(content)).read("")).size == (9, 12)


def test_sixteen_bit_grey_is_rotated() -> None:
    content = encode(Image.fromarray((RAMP * 27).astype(np.uint16)), "PNG", exif=tagged(8))
    upright = decode(ExifOrientedReader(InMemoryReader(content)).read(""))
    assert np.array_equal(np.asarray(upright)[..., 0], np.rot90(RAMP * 27 >> 8))


def test_undecodable_images_are_returned_unchanged() -> None:
    assert ExifOrientedReader(InMemoryReader(b"no picture")).read("") == b"no picture"
    cut = encode(noise(), "JPEG", exif=tagged(6))[:-900]
    assert ExifOrientedReader(InMemoryReader(cut)).read("") == cut


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_of_several_frames_the_first(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    content = encode(frames[0], form, save_all=True, append_images=frames[1:])
    pixel = decode(content).convert("RGB").getpixel((8, 8))
    assert np.abs(np.subtract(pixel, (255, 0, 0))).max() <= 3
    assert load(content).is_animated


@pytest.mark.parametrize(
    ("form", "options"),
    [
        *((form, {}) for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM", "JPEG2000")),
        *(("JPEG", {"progressive": True}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})),
    ],
)
def test_a_file_truncated_anywhere_is_detected(form: str, options: dict[str, Any]) -> None:
    content = encode(noise(), form, **options)
    whole = np.asarray(decode(content))
    assert whole.shape[:2] == (40, 60)
    # the last bytes of some formats are an end marker and no pixels
    for end in [1, 2, 8, 12, *range(20, len(content) - 20, len(content) // 23)]:
        with pytest.raises(BadImageError, match=r"cannot be decoded|not an image"):
            decode(content[:end])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0", "not an image"),
        (b"no picture at all", "not an image"),
        (b"%PDF-1.7\n1 0 obj\n", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "not an image"),
        (b"PK\x03\x04" + bytes(40), "not an image"),
        (b"<!DOCTYPE html><title>404</title>", "not an image"),
        (encode(Image.new("RGB", (90, 90)), "JPEG")[:-90], "image file is truncated$"),
    ],
)
def test_other_files_are_rejected_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadImageError, match=reason):
        decode(content)


def test_the_name_is_ignored_and_ghostscript_is_never_run(tmp_path: Path) -> None:
    """An EPS file is a program, which Pillow would run with Ghostscript; this one leaves a file."""
    mark = tmp_path / "ran"
    script = tmp_path / "gs"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    eps = tmp_path / "photo.jpg"
    eps.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def ran(code: str) -> bool:
        mark.unlink(missing_ok=True)
        lines = f"import pathlib, contextlib\nwith contextlib.suppress(Exception):\n    {code}"
        subprocess.run([sys.executable, "-c", lines], env=environment, check=True, timeout=120)
        return mark.exists()

    assert ran(f"from PIL import Image; Image.open({str(eps)!r}).load()")
    decode_it = f"decode(pathlib.Path({str(eps)!r}).read_bytes())"
    assert not ran(f"from semscale.datasets.image_decoding import decode; {decode_it}")


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_names_its_package(brand: bytes) -> None:
    content = struct.pack(">I4s4sI", 24, b"ftyp", brand, 0) + b"mif1heic" + bytes(200)
    with pytest.raises(BadImageError, match=r"HEIC, which needs the package pillow-heif|cannot be decoded"):
        decode(content)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + data + chunk(b"IEND", b"")


def gif(side: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBBBHHHHB", side, side, 0, 0, 0, ord(","), 0, 0, side, side, 0)


def tiff(data: bytes, *, bits: int, order: str = "<", kind: int = 1) -> bytes:
    """Write 60 x 40 grey pixels as an uncompressed TIFF; Pillow writes no big-endian ones by itself."""
    tags = {256: 60, 257: 40, 258: bits, 259: 1, 262: 1, 273: 200, 277: 1, 278: 40, 279: len(data), 339: kind}
    fields = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", len(tags))
    return (head + fields + bytes(4)).ljust(200, b"\0") + data


@pytest.mark.parametrize(
    "content",
    [
        png(50_000, 50_000, b""),
        png(MAX_PIXELS + 1, 1, b"", colour=0),
        b"P6\n50000 50000\n255\n" + bytes(100),
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 1000, 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
        gif(65_535) + b"\x08\x01\0\0;",
    ],
    ids=["png", "png-wide", "ppm", "bmp", "gif"],
)
@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None])  # None: another library switched Pillow's check off
def test_decompression_bombs_are_rejected_by_their_header(
    content: bytes, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadImageError, match=r"more than 178,956,970 pixels, a decompression bomb"):
        decode(content)


def test_a_decompression_bomb_in_a_text_chunk_is_rejected() -> None:
    bomb = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(80_000_000), 1))
    with pytest.raises(BadImageError, match="cannot be decoded"):
        decode(png(2, 2, bytes(14), extra=bomb))


def test_an_image_without_pixels_is_rejected() -> None:
    with pytest.raises(BadImageError):
        decode(gif(0) + b"\x02\0;")


def test_large_and_corrupt_metadata_do_no_harm() -> None:
    image = noise()
    plain = np.asarray(decode(encode(image, "JPEG")))
    profile = bytes(np.random.default_rng(1).integers(0, 256, 900_000, dtype=np.uint8))
    corrupt = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(256)) * 20
    large = b"Exif\0\0" + bytes(60_000)
    for options in ({"icc_profile": profile}, {"exif": corrupt}, {"exif": large}):
        content = encode(image, "JPEG", **options)
        decoded = decode(content)
        assert np.array_equal(np.asarray(decoded), plain)
        assert exif_orientation(decoded) == 1
        assert ExifOrientedReader(InMemoryReader(content)).read("") == content


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_invalid_orientation_is_upright(value: int) -> None:
    content = encode(noise(), "JPEG", exif=tagged(value))
    assert exif_orientation(decode(content)) == 1
    assert ExifOrientedReader(InMemoryReader(content)).read("") == content


def test_threads_decode_concurrently_without_changing_the_warning_filters() -> None:
    contents = [encode(noise("P"), "PNG", transparency=bytes(range(256))), encode(noise(), "JPEG", exif=b"Exif\0\0II*")]
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        sizes = {image.size for image in pool.map(decode, contents * 50)}
    assert sizes == {(60, 40)}
    assert warnings.filters == before


def test_unusual_files_are_decoded_without_warnings(tmp_path: Path) -> None:
    contents = [
        encode(noise("P"), "PNG", transparency=bytes(range(256))),
        encode(noise(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        png(10_000, 10_000, b"", colour=0),
    ]
    for i, content in enumerate(contents):
        (tmp_path / str(i)).write_bytes(content)
    code = (
        "import contextlib, pathlib\n"
        "from semscale.datasets.image_decoding import BadImageError, exif_orientation, load\n"
        f"for file in pathlib.Path({str(tmp_path)!r}).iterdir():\n"
        "    with contextlib.suppress(BadImageError):\n        load(file.read_bytes()).convert('RGB')\n"
        "        exif_orientation(load(file.read_bytes()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert ended.stderr == ""
