"""Hostile and strange images: decoded as a person sees them, or refused, and nothing else."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin, features

from langchain_localhf.engines.images import begins_like_image, decode, decoding
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "TIFF": {},
    "BMP": {},
    "GIF": {},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 100, "subsampling": 0},
    "MPO": {"quality": 100, "subsampling": 0},
}
if features.check("avif"):
    LOSSLESS["AVIF"] = {"quality": 100, "subsampling": "4:4:4"}
FAST: dict[str, dict[str, Any]] = {
    "AVIF": {"speed": 10},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "WEBP": {"method": 0, "quality": 0},
}
ORIENTATIONS = [1, 2, 3, 4, 5, 6, 7, 8]
UNDONE = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data: bytes | Image.Image, **limits: Any) -> Any:
    """The pixels. Shape: `(height, width, 3)`."""
    image = decode(data, label="images[3]", index=3, **limits)
    assert image.mode == "RGB"
    return np.asarray(image)


def refused(data: bytes | Image.Image, **limits: Any) -> str:
    """The message with which an image is refused, which begins with its label."""
    with pytest.raises(InputError) as caught:
        decode(data, label="images[3]", index=3, **limits)
    assert caught.value.index == 3
    assert caught.value.hint
    assert caught.value.message.startswith("images[3] ")
    return caught.value.message


def png(size: tuple[int, int], depth: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG, chunk by chunk; Pillow writes neither all kinds nor false ones."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def four_corners() -> Image.Image:
    """Another colour in each corner, 24 wide and 16 high."""
    image = Image.new("RGB", (24, 16))
    for x, y, colour in [(0, 0, RED), (12, 0, GREEN), (0, 8, BLUE), (12, 8, WHITE)]:
        image.paste(colour, (x, y, x + 12, y + 8))
    return image


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A warning is an error, in every thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class TestRight:
    """What is decoded, and what comes of it."""

    @pytest.mark.parametrize("kind", LOSSLESS)
    def test_kinds(self, kind: str) -> None:
        """Every kind that is read is read right, from bytes and as Pillow opens it, which may be later."""
        data = encoded(four_corners(), kind, **LOSSLESS[kind])
        assert begins_like_image(data)
        pixels = decoded(data)
        np.testing.assert_allclose(pixels.astype(int), np.asarray(four_corners()).astype(int), atol=12)
        np.testing.assert_array_equal(decoded(Image.open(io.BytesIO(data))), pixels)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_turned(self, kind: str, orientation: int) -> None:
        """A picture that EXIF says lies on its side stands up, once."""
        turn = UNDONE[orientation]
        stored = four_corners() if turn is None else four_corners().transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(stored, kind, exif=exif, **LOSSLESS[kind])
        for form in (data, Image.open(io.BytesIO(data))):
            pixels = decoded(form)
            np.testing.assert_allclose(pixels.astype(int), np.asarray(four_corners()).astype(int), atol=12)

    @pytest.mark.parametrize("orientation", [0, 9, 65535, "up", (1, 2)])
    def test_turned_by_nonsense(self, orientation: Any) -> None:
        """An orientation that there is none of turns nothing."""
        image = four_corners()
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.info["exif"] = exif.tobytes() if isinstance(orientation, int) else b"Exif\0\0MM\0*\xff\xff\xff"
        np.testing.assert_array_equal(decoded(image), np.asarray(four_corners()))

    @pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0" + b"\xff" * 60_000])
    def test_damaged_exif(self, exif: bytes) -> None:
        """EXIF that cannot be read says nothing, and the picture is as it is."""
        assert decoded(encoded(Image.new("RGB", (4, 4), RED), "PNG", exif=exif)).tolist() == [[list(RED)] * 4] * 4

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
    def test_several_frames(self, kind: str) -> None:
        """Of several frames, the first counts."""
        red, green = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), GREEN)
        data = encoded(red, kind, save_all=True, append_images=[green, green], **LOSSLESS[kind])
        np.testing.assert_allclose(decoded(data).astype(int)[8, 8], RED, atol=12)

    def test_frame_in_hand(self) -> None:
        """Of a picture that Pillow has opened, the frame counts at which it stands."""
        red, green = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), GREEN)
        image = Image.open(io.BytesIO(encoded(red, "GIF", save_all=True, append_images=[green])))
        image.seek(1)
        assert decoded(image)[0, 0].tolist() == list(GREEN)

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk(self, kind: str) -> None:
        """Four inks on paper; as JPEG, Adobe's programs write them inverted."""
        data = encoded(
            Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind, **({} if kind == "TIFF" else LOSSLESS[kind])
        )
        assert (b"Adobe" in data) == (kind == "JPEG")
        np.testing.assert_allclose(decoded(data)[0, 0].astype(int), RED, atol=12)

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
    def test_small(self, kind: str, size: tuple[int, int]) -> None:
        """One pixel, and lines of them."""
        pixels = decoded(encoded(Image.new("RGB", size, RED), kind, **LOSSLESS[kind]))
        assert pixels.shape == (size[1], size[0], 3)
        np.testing.assert_allclose(pixels[0, 0].astype(int), RED, atol=12)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_gray_in_sixteen_bits(self, kind: str) -> None:
        """Scaled to eight bits, as in other programs; not clipped to white."""
        values = np.array([[0, 255, 256, 1000, 32768, 65535]], np.uint16)
        data = encoded(Image.fromarray(values), kind)
        assert decoded(data)[0, :, 0].tolist() == [0, 0, 1, 3, 128, 255]
        assert decoded(Image.open(io.BytesIO(data)))[0, :, 0].tolist() == [0, 0, 1, 3, 128, 255]
        assert decoded(Image.fromarray(values.astype(">u2")))[0, :, 0].tolist() == [0, 0, 1, 3, 128, 255]

    def test_more_in_sixteen_bits(self) -> None:
        """Colour, gray with transparency, and one gray that is transparent."""
        colour = png((2, 1), 16, 2, b"\0" + struct.pack(">6H", 0x1234, 0xABCD, 0xFFFF, 0, 256, 512))
        assert decoded(colour).tolist() == [[[0x12, 0xAB, 0xFF], [0, 1, 2]]]
        with_alpha = png((2, 1), 16, 4, b"\0" + struct.pack(">4H", 0x8000, 0xFFFF, 0x8000, 0))
        assert decoded(with_alpha)[0, :, 0].tolist() == [0x80, 255]
        gray = png((2, 1), 16, 0, b"\0" + struct.pack(">2H", 1000, 1001), (b"tRNS", struct.pack(">H", 1000)))
        assert decoded(gray)[0, :, 0].tolist() == [255, 3]

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB"])
    def test_transparency(self, mode: str) -> None:
        """What is transparent is white, as on a page, and not whatever colour lies hidden below."""
        image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
        image.putpixel((1, 0), (0, 0, 0, 255))
        if mode in {"P", "L", "RGB"}:
            image = Image.new(mode, (2, 1), 0)
            image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
            transparent = (0, 0, 0) if mode == "RGB" else 0
            image = Image.open(io.BytesIO(encoded(image, "PNG", transparency=transparent)))
        else:
            image = image.convert(mode)
        assert decoded(image)[0, 0].tolist() == list(WHITE)
        assert max(decoded(image)[0, 1]) <= 9

    def test_half_transparent(self) -> None:
        """Half of a colour is that half over white."""
        assert decoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))[0, 0].tolist() == [127, 127, 127]

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"])
    def test_modes(self, mode: str) -> None:
        """Every mode with one way to show it gives what Pillow shows."""
        image = four_corners().convert("L").convert(mode) if mode == "1" else four_corners().convert(mode)
        np.testing.assert_array_equal(decoded(image), np.asarray(image.convert("RGB")))

    def test_palette_with_bytes_of_transparency(self) -> None:
        """A transparency for each colour of a palette, of which Pillow likes to warn."""
        image = Image.new("P", (2, 1), 0)
        image.putpalette([*RED, *GREEN])
        image.putpixel((1, 0), 1)
        data = encoded(image, "PNG", transparency=b"\x00\xff")
        assert decoded(data).tolist() == [[list(WHITE), list(GREEN)]]

    def test_metadata(self) -> None:
        """Much text and a colour profile around a picture say nothing about it."""
        info = PngImagePlugin.PngInfo()
        info.add_text("comment", "x" * 900_000, zip=True)
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        data = encoded(Image.new("RGB", (4, 4), RED), "PNG", pnginfo=info, icc_profile=profile)
        assert decoded(data)[0, 0].tolist() == list(RED)
        jpeg = encoded(Image.new("RGB", (4, 4), RED), "JPEG", icc_profile=b"x" * 500_000, comment=b"y" * 60_000)
        assert decoded(jpeg).shape == (4, 4, 3)

    def test_left_as_it_is(self) -> None:
        """The user's own picture keeps its mode, its size and its place among frames."""
        image = Image.new("RGBA", (5, 4), (1, 2, 3, 4))
        before = image.copy()
        decoded(image)
        assert (image.mode, image.size, image.tobytes()) == (before.mode, before.size, before.tobytes())

    def test_one_picture_in_many_threads(self) -> None:
        """A picture that Pillow has not loaded yet may stand in a list twice."""
        data = encoded(Image.effect_noise((600, 600), 90).convert("RGB"), "PNG")
        expected = decoded(data).tobytes()
        for _ in range(5):
            image, results = Image.open(io.BytesIO(data)), []
            threads = [threading.Thread(target=lambda: results.append(decoded(image).tobytes())) for _ in range(6)]  # noqa: B023 - they end in this round
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert results == [expected] * 6


class TestRefuse:
    """What is not decoded, and what is said."""

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "is empty"),
            (b"\0", "is no image"),
            (b"A photograph of a harbour, as a text.", "is no image"),
            (b"<!doctype html><html><body>404</body></html>", "is no image"),
            (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "is no image"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "is no image"),
            (b"%PDF-1.7\n%%EOF", "is no image"),
            (b"8BPS\0\1" + bytes(40), "is no image"),
            (b"P6 2 2 255\n" + bytes(12), "is no image"),
            (b"\x89PNG\r\n\x1a\n", "begins as PNG, and is damaged"),
            (b"\xff\xd8\xff", "begins as JPEG, and is damaged"),
            (b"GIF89a", "begins as GIF, and is damaged"),
            (b"II*\0", "damaged"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "damaged"),
            (b"BM" + bytes(60), "damaged"),
        ],
        ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
    )
    def test_no_image(self, data: bytes, said: str) -> None:
        """What is no image, or of a kind that is not read."""
        assert said in refused(data)

    @pytest.mark.parametrize("kind", LOSSLESS)
    @pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
    def test_truncated(self, kind: str, part: float) -> None:
        """A file that was cut off is refused, not filled up with gray."""
        noise = Image.effect_noise((90, 90), 80).convert("RGB")
        data = encoded(noise, kind, **LOSSLESS[kind])
        refused(data[: int(len(data) * part)])

    def test_bomb(self) -> None:
        """Many pixels in a few bytes are counted before they are made."""
        rows = zlib.compress(bytes(10))
        assert len(rows) < 100
        assert "more than the 64,000,000" in refused(png((8001, 8000), 8, 0, b""))
        assert "too large" in refused(png((60_000, 60_000), 8, 0, b""))
        assert "too large" in refused(png((2**31 - 1, 2**31 - 1), 8, 0, b""))
        data = encoded(Image.new("RGB", (100, 100)), "PNG")
        assert "100 x 100 pixels, more than the 9,999" in refused(data, max_pixels=9_999)
        assert "100 x 100" in refused(Image.open(io.BytesIO(data)), max_pixels=9_999)
        assert decoded(data, max_pixels=10_000).shape == (100, 100, 3)

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_many_frames(self, kind: str) -> None:
        """Only the first frame is decoded, so the others cost nothing; its size counts as that of a still image."""
        frames = [Image.new("RGB", (64, 64), (index, 0, 0)) for index in range(200)]
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert decoded(data).shape == (64, 64, 3)
        assert "64 x 64" in refused(data, max_pixels=4_095)

    def test_frame_beyond_its_screen(self) -> None:
        """A GIF whose first frame is larger than it says in its header has the size of the frame."""
        data = bytearray(encoded(Image.new("L", (300, 300)), "GIF"))
        data[6:10] = struct.pack("<HH", 1, 1)
        assert "pixels, more than" in refused(bytes(data), max_pixels=50_000)

    @pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
    def test_bomb_beside_the_picture(self, name: bytes) -> None:
        """Text or a profile that would become many megabytes is not unpacked."""
        packed = zlib.compress(bytes(1 << 25))
        data = png((1, 1), 8, 0, b"\0\0", (name, (b"k\0\1\0\0\0" if name == b"iTXt" else b"k\0\0") + packed))
        tracemalloc.start()
        try:
            pixels = decoded(data).tolist()
        except InputError as error:
            assert "too large" in error.message  # noqa: PT017 - this is right, and so is the picture
        else:
            assert pixels == [[[0, 0, 0]]]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 23

    @pytest.mark.parametrize("kind", ["WEBP", "AVIF", "TIFF", "GIF", "JPEG", "BMP"])
    def test_memory(self, kind: str, tmp_path: Path) -> None:
        """A file that says that it holds a huge picture costs no memory before it is refused."""
        if kind not in LOSSLESS:
            pytest.skip("this Pillow reads no AVIF")
        mode = "L" if kind == "GIF" else "1" if kind == "BMP" else "RGB"
        (tmp_path / "small").write_bytes(encoded(Image.new("RGB", (8, 8)), kind))
        (tmp_path / "huge").write_bytes(encoded(Image.new(mode, (9_000, 9_000)), kind, **FAST.get(kind, {})))
        assert int(_run(_MEASURED, tmp_path / "small", tmp_path / "huge")) < 60_000

    @pytest.mark.parametrize("mode", ["F", "I", "LAB"])
    def test_no_one_way_to_show_it(self, mode: str) -> None:
        """Measured values and colours that no screen has are refused, from files too."""
        image = Image.new(mode, (2, 2))
        assert f"pixels of the kind {mode}" in refused(image)
        assert f"pixels of the kind {mode}" in refused(encoded(image, "TIFF"))

    def test_another_program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that Pillow would hand to another program is refused, also where Pillow has opened it already."""
        ran = tmp_path / "ran"
        (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\n")
        (tmp_path / "gs").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        eps = encoded(Image.new("RGB", (4, 4)), "EPS")
        assert "is no image" in refused(eps)
        assert "a file of the kind EPS" in refused(Image.open(io.BytesIO(eps)))
        assert not ran.exists()

    def test_picture_of_another_kind(self) -> None:
        """A picture from a file of another kind is refused; a copy, which its owner decoded, is not."""
        image = Image.open(io.BytesIO(encoded(four_corners(), "PPM")))
        assert "PPM" in refused(image)
        np.testing.assert_array_equal(decoded(image.copy()), np.asarray(four_corners()))

    def test_closed(self) -> None:
        """A picture whose file was closed before it was read."""
        image = Image.open(io.BytesIO(encoded(four_corners(), "PNG")))
        image.close()
        refused(image)

    def test_no_pixels(self) -> None:
        """A picture without height."""
        assert "no pixels" in refused(Image.new("RGB", (5, 0)))


class TestWarnings:
    """Pillow's warnings, of which nobody could make anything."""

    def test_back_to_normal(self) -> None:
        """Afterwards, Pillow may warn again, and no filter is left behind."""
        before = list(warnings.filters)
        decoded(encoded(four_corners(), "PNG"))
        refused(b"nonsense")
        assert list(warnings.filters) == before

    def test_someone_restores_the_filters_meanwhile(self) -> None:
        """Whoever else changes the filters in between does no harm, and comes to none."""
        data = encoded(Image.effect_noise((500, 500), 90), "PNG")
        threads = [threading.Thread(target=lambda: decoded(data)) for _ in range(4)]
        before = list(warnings.filters)
        for thread in threads:
            thread.start()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
        for thread in threads:
            thread.join()
        decoded(data)
        assert [entry for entry in warnings.filters if entry in before] == before


_MEASURED = """
import resource, sys
from langchain_localhf.engines.images import decode
from langchain_localhf.errors import InputError

small, huge = (open(path, "rb").read() for path in sys.argv[1:])
decode(small, label="small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(huge, label="huge")
except InputError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def _run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own


@cache
def samples() -> tuple[bytes, ...]:
    """Small files of every kind, with all that may stand in them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a harbour"
    image = Image.effect_noise((20, 14), 90)
    colours, gray, clear = image.convert("RGB"), image.convert("L"), image.convert("RGBA")
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 50, zip=True)
    info.add_itxt("comment", "y" * 50, zip=True)
    found = [
        encoded(colours, "JPEG", exif=exif, icc_profile=b"p" * 40, comment=b"c"),
        encoded(colours, "JPEG", progressive=True),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(colours, "MPO", save_all=True, append_images=[colours]),
        encoded(clear, "PNG", exif=exif, pnginfo=info, icc_profile=b"p" * 40),
        encoded(colours.quantize(16), "PNG", transparency=b"\x00\x80"),
        encoded(colours, "PNG", save_all=True, append_images=[gray.convert("RGB")]),
        encoded(Image.fromarray(np.arange(280, dtype=np.uint16).reshape(14, 20)), "PNG"),
        png((2, 1), 16, 2, b"\0" + bytes(range(12)), (b"tRNS", b"\x12\x34" * 3)),
        encoded(colours, "GIF", save_all=True, append_images=[clear.convert("RGB")], transparency=3),
        encoded(clear, "WEBP", exif=exif),
        encoded(colours, "WEBP", save_all=True, append_images=[clear]),
        encoded(colours, "BMP"),
        encoded(colours.quantize(16), "BMP"),
        *(
            encoded(colours, "TIFF", compression=name, exif=exif)
            for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        ),
        encoded(image.convert("1"), "TIFF", compression="group4"),
        encoded(colours, "TIFF", save_all=True, append_images=[gray]),
    ]
    if features.check("avif"):
        found.append(encoded(colours, "AVIF", exif=exif))
    return tuple(found)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file with some bytes changed, and perhaps an end that is missing or repeated."""
    data = bytearray(draw(st.sampled_from(samples())))
    for _ in range(draw(st.integers(0, 6))):
        # Most of what can be wrong stands in the first bytes.
        place = draw(st.integers(0, len(data) - 1) | st.integers(0, min(120, len(data) - 1)))
        data[place] = draw(st.integers(0, 255) | st.sampled_from([0, 1, 127, 128, 255]))
    cut = draw(st.none() | st.integers(0, len(data)))
    return bytes(data if cut is None else data[:cut] + data[cut:] * draw(st.integers(0, 2)))


def decoded_or_refused(data: bytes | Image.Image) -> None:
    """Holds to it that there is no third way."""
    try:
        image = decode(data, label="images[7]", index=7, max_pixels=1_000_000)
    except InputError as error:
        said = (error.index, error.message[:10], "0x" in error.message)
        assert said == (7, "images[7] ", False)
    else:
        assert image.mode == "RGB"
        assert 0 < image.width * image.height <= 1_000_000


@given(damaged())
@settings(max_examples=400, deadline=None)
def test_damaged(data: bytes) -> None:
    """Whatever is done to a file, it is decoded or refused with its index; no warning, no other error."""
    decoded_or_refused(data)


@given(damaged())
@settings(max_examples=200, deadline=None)
def test_damaged_and_opened(data: bytes) -> None:
    """The same for what Pillow opens and does not read yet."""
    try:
        image = Image.open(io.BytesIO(data))
    except Exception:  # noqa: BLE001 - then its owner knows already
        return
    decoded_or_refused(image)


def test_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large images are decoded one after the other, and none waits for itself."""
    monkeypatch.setattr(decoding, "_LARGE_PIXELS", 10)
    data, results = encoded(Image.effect_noise((300, 300), 90), "PNG"), []
    threads = [threading.Thread(target=lambda: results.append(decoded(data).shape)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(300, 300, 3)] * 4
