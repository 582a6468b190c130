"""Images in files are read and preprocessed like the training images."""

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from handmade import MNIST, WHOLE, lying, upright
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from tasks.imaging import preprocess
from tasks.imaging.segmentation import UnusableImage


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def one(path: Path) -> np.ndarray:
    (page,) = preprocess.read(path)
    return preprocess.to_spec(page, MNIST)


def paper(size: int = 200) -> Image.Image:
    """Return an upright bar, black on white, in an image of `size`."""
    image = Image.new("L", (size, size), 255)
    image.paste(0, (size * 45 // 100, size // 5, size * 55 // 100, size * 4 // 5))
    return image


def looks_upright(image: np.ndarray) -> bool:
    rows, columns = np.nonzero(image > 127)
    high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    return 19 <= high <= 20 and 3 <= wide <= 5 and abs(columns.mean() - 13.5) <= 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "CMYK", "RGBA", "LA", "I;16"])
def test_every_mode_of_every_format_is_read(tmp_path, suffix, mode):
    image = (
        paper()
        if mode != "I;16"
        else Image.fromarray(np.asarray(paper()).astype(np.uint16) * 257)
    )
    image = image if mode == "I;16" else image.convert(mode)
    try:
        path = saved(tmp_path / f"a.{suffix}", image)
    except (OSError, KeyError):
        pytest.skip("the format does not support this mode")
    assert looks_upright(one(path))


def test_transparent_parts_become_white(tmp_path):
    clear = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (45, 20, 55, 80))
    assert looks_upright(one(saved(tmp_path / "a.png", clear)))
    white = Image.new("RGBA", (100, 100), (255, 255, 255, 0))
    white.paste((255, 255, 255, 255), (45, 20, 55, 80))
    assert looks_upright(one(saved(tmp_path / "b.png", white)))


def test_images_of_12_bits_are_read_like_those_of_16(tmp_path):
    values = np.asarray(paper()).astype(np.uint16) * 16
    assert looks_upright(one(saved(tmp_path / "a.tif", Image.fromarray(values))))


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", paper().rotate(90), exif=exif)
    assert looks_upright(one(path))


def test_pages_beyond_the_limit_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess, "MAX_PAGES", 2)
    pages = [paper()] * 3
    saved(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    assert len(list(preprocess.read(tmp_path / "a.tif"))) == 2


def test_every_page_of_a_file_is_read(tmp_path):
    pages = [paper(), paper().rotate(90), paper()]
    saved(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    images = [
        preprocess.to_spec(page, MNIST) for page in preprocess.read(tmp_path / "a.tif")
    ]
    assert [looks_upright(image) for image in images] == [True, False, True]


@pytest.mark.parametrize("image", [upright(), lying()])
def test_an_image_like_the_training_images_is_unchanged(tmp_path, image):
    path = saved(tmp_path / "a.png", Image.fromarray(image))
    assert (one(path) == image).all()


def test_a_digit_smaller_than_the_box_is_enlarged():
    image = np.zeros((28, 28), np.uint8)
    image[8:18, 3:5] = 255
    assert looks_upright(preprocess.to_spec(image, MNIST))


def test_without_a_box_the_whole_image_is_scaled_and_not_inverted():
    bright = np.full((64, 64), 255, np.uint8)
    bright[:, :32] = 0
    scaled = preprocess.to_spec(bright, WHOLE)
    assert (scaled[:, :3] == 0).all()
    assert (scaled[:, 5:] == 16).all()
    own = np.arange(64, dtype=np.uint8).reshape(8, 8) % 17
    assert (preprocess.to_spec(own, WHOLE) == own).all()


def gif() -> bytes:
    buffer = io.BytesIO()
    paper(30).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not a PNG, JPEG or TIFF image"),
        (gif(), "it is not a PNG, JPEG or TIFF image"),
    ],
)
def test_other_files_are_refused(tmp_path, content, reason):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnusableImage, match=reason):
        list(preprocess.read(tmp_path / "a.png"))


@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (90, 90), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, suffix)
    path = tmp_path / "a"
    path.write_bytes(buffer.getvalue()[: buffer.tell() // 2])
    with pytest.raises(UnusableImage, match="it is (damaged or incomplete|not a PNG)"):
        list(preprocess.read(path))


def test_a_decompression_bomb_is_refused_unread(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("1", (8_000, 8_001)))
    with pytest.raises(UnusableImage, match="it is too large: 8000 x 8001 pixels"):
        list(preprocess.read(path))


@pytest.mark.parametrize("value", [0, 200, 255])
def test_a_blank_image_is_refused(value):
    for shape in ((28, 28), (50, 70)):
        with pytest.raises(UnusableImage, match="it is blank"):
            preprocess.to_spec(np.full(shape, value, np.uint8), MNIST)


def test_an_image_of_little_contrast_is_refused():
    faint = np.full((50, 70), 200, np.uint8)
    faint[20:30] = 194
    with pytest.raises(UnusableImage, match="it is blank"):
        preprocess.to_spec(faint, MNIST)


def test_pixels_that_are_not_numbers_are_refused(tmp_path):
    values = np.full((20, 20), np.nan, np.float32)
    path = saved(tmp_path / "a.tif", Image.fromarray(values))
    with pytest.raises(UnusableImage, match="some of its pixels are NaN"):
        list(preprocess.read(path))


def contents() -> list[bytes]:
    found = []
    for suffix in ("PNG", "JPEG", "TIFF"):
        buffer = io.BytesIO()
        paper(40).save(buffer, suffix)
        found.append(buffer.getvalue())
    return found


@given(
    st.sampled_from(contents()),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    st.integers(0, 60),
)
@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_damaged_file_is_read_or_refused(tmp_path, content, changes, cut):
    damaged = bytearray(content)
    for share, value in changes:
        damaged[int(share * (len(damaged) - 1))] = value
    path = tmp_path / "a"
    path.write_bytes(damaged[: len(damaged) - cut])
    with suppress(UnusableImage):
        for page in preprocess.read(path):
            assert preprocess.to_spec(page, MNIST).shape == (28, 28)


def test_a_cycle_of_pages_ends(tmp_path):
    buffer = io.BytesIO()
    paper(30).save(buffer, "TIFF")
    content = bytearray(buffer.getvalue())
    with Image.open(buffer) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
    first = int.from_bytes(content[4:8], "little")
    entries = int.from_bytes(content[first : first + 2], "little")
    at = first + 2 + 12 * entries
    content[at : at + 4] = first.to_bytes(4, "little")
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert len(list(preprocess.read(path))) == 1
