"""Preprocess an image of any size to the specification of the training images.

MNIST was made like this (Y. LeCun, "The MNIST database of handwritten digits"; LeCun,
Bottou, Bengio and Haffner 1998): bright digits on a dark background, scaled to fit a
box of 20x20 pixels with their aspect kept, antialiased, and placed in 28x28 pixels with
the centre of mass in the middle. `tasks.imaging.segmentation` finds the foreground.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.dataset.spec import ImageSpec
from tasks.dataset.splits import Floats, Pixels
from tasks.imaging import segmentation
from tasks.imaging.segmentation import UnusableImage

FORMATS = ("PNG", "JPEG", "TIFF")
MANY_PAGES = ("PNG", "TIFF")  # the second picture in a JPEG file is a preview
# A photograph of a good camera. A larger image may be a decompression bomb.
MAX_PIXELS = 64_000_000
MAX_PAGES = 10_000
# Longer sides are reduced to this: many times the box, and little work.
LONGEST = 256
WHITE = 255
# Pixels by which the size may differ from the box; the centre, by half of them.
TOLERANCE = 4
# An empty sheet of paper has less contrast, noise included.
MIN_CONTRAST = 8

Intensities = npt.NDArray[np.floating] | Pixels


def read(path: Path) -> Iterator[Floats]:
    """Yield each page of an image file in grayscale, (rows, columns), 0 to 255.

    EXIF orientation is applied, transparent parts become white, and pages with a side
    longer than `LONGEST` are reduced.

    Raises:
        UnusableImage: it is not a PNG, JPEG or TIFF image, is damaged, or too large.
    """
    with _refusing_damage():
        image = Image.open(path, formats=FORMATS)
    with image:
        for number in range(MAX_PAGES):
            with _refusing_damage():
                try:
                    image.seek(number)
                except EOFError:
                    return
                page = _grayscale(image)
            yield page
            if image.format not in MANY_PAGES:
                return


def to_spec(values: Intensities, image_spec: ImageSpec) -> Pixels:
    """Return an image, uint8 (rows, columns), that conforms to `image_spec`.

    Args:
        values: grayscale, (rows, columns) of any size, 0 to 255, of either polarity.
        image_spec: of the training images.

    Raises:
        UnusableImage: it is blank, or has no foreground.
    """
    if values.size == 0 or values.max() == values.min():
        raise UnusableImage("it is blank")
    if conforms(values, image_spec):
        return values.astype(np.uint8)
    if values.max() - values.min() < MIN_CONTRAST:
        raise UnusableImage("it is blank")
    if image_spec.box is None:
        image = Image.fromarray((values / WHITE).astype(np.float32))
        size = image_spec.shape[::-1]
        scaled = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32)
    else:
        if max(values.shape) > LONGEST:
            values = np.asarray(_reduced(Image.fromarray(values.astype(np.float32))))
        foreground = segmentation.scaled(segmentation.find(values), image_spec.box)
        scaled = _centred(foreground, image_spec.shape)
    pixels = np.rint(np.clip(scaled, 0, 1) * image_spec.brightest).astype(np.uint8)
    if pixels.max() == pixels.min():
        raise UnusableImage("it is blank at the size of the training images")
    return pixels


def conforms(values: Intensities, image_spec: ImageSpec) -> bool:
    """Return whether an image, not blank, already conforms to `image_spec`.

    If the specification has a box, the foreground must be about as large as the box,
    with its centre of mass near the middle, on a background of 0, as in all of MNIST.
    """
    in_range = values.min() >= 0 and values.max() <= image_spec.brightest
    if values.shape != image_spec.shape or not in_range:
        return False
    if image_spec.box is None:
        return True
    top, left, bottom, right = segmentation.box(values > 0)
    longest = max(bottom - top, right - left)
    off = np.subtract(segmentation.centre(values), np.divide(image_spec.shape, 2))
    fits = abs(longest - image_spec.box) <= TOLERANCE
    return bool(fits and (abs(off) <= TOLERANCE / 2).all())


@contextmanager
def _refusing_damage() -> Iterator[None]:
    """Raise UnusableImage for whatever Pillow raises on a damaged file."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about metadata
            yield
    except UnusableImage:
        raise
    except UnidentifiedImageError:
        raise UnusableImage("it is not a PNG, JPEG or TIFF image") from None
    except (Image.DecompressionBombError, MemoryError):
        raise UnusableImage("it is too large") from None
    except Exception as error:  # noqa: BLE001  # decoders raise any of them
        if isinstance(error, OSError) and error.strerror:
            raise UnusableImage(f"it can't be read: {error.strerror}") from None
        raise UnusableImage("it is damaged or incomplete") from None


def _grayscale(image: Image.Image) -> Floats:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height} pixels"
        raise UnusableImage(f"it is too large: {size}, of at most {MAX_PIXELS:,}")
    image.draft("L", (LONGEST, LONGEST))  # decodes a JPEG at a reduced size
    page = ImageOps.exif_transpose(image)
    if page.mode.startswith(("I", "F")):
        page = Image.fromarray(_from_many_bits(np.asarray(page), page.mode))
    elif page.has_transparency_data:
        page = _on_white(_reduced(page.convert("RGBA")))
    elif page.mode == "LAB":
        page = page.getchannel(0)
    elif page.mode not in ("L", "RGB"):
        page = page.convert("RGB")
    mode = "F" if page.mode == "F" else "L"
    return np.asarray(_reduced(page).convert(mode), np.float32)


def _reduced(image: Image.Image) -> Image.Image:
    """Return an image whose sides are at most `LONGEST`."""
    if max(image.size) > LONGEST:
        image = image.copy()
        image.thumbnail((LONGEST, LONGEST), reducing_gap=2)
    return image


def _from_many_bits(values: npt.NDArray[np.generic], mode: str) -> Floats:
    """Scale values of more than 8 bits to 0 to 255.

    16-bit values are divided by the highest power of two in use, because scanners may
    use 10 or 12 bits only. Others are scaled by their range.
    """
    floats = values.astype(np.float64)
    if not np.isfinite(floats).all():
        raise UnusableImage("it is damaged: some of its pixels are NaN or infinite")
    low, high = float(floats.min()), float(floats.max())
    if mode.startswith("I;16"):
        low, high = 0.0, 2.0 ** max(8, int(high).bit_length()) - 1
    return ((floats - low) / max(high - low, 1e-9) * WHITE).astype(np.float32)


def _on_white(image: Image.Image) -> Image.Image:
    """Return an RGBA image on white; if it is white itself, its transparency."""
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    page = page.convert("L")
    if np.ptp(np.asarray(page)) < MIN_CONTRAST:
        return ImageOps.invert(image.getchannel("A"))
    return page


def _centred(foreground: Floats, shape: tuple[int, int]) -> Floats:
    """Place the foreground in an image of `shape`, its centre of mass in the middle."""
    room = np.subtract(shape, foreground.shape)
    middle = np.divide(shape, 2) - segmentation.centre(foreground)
    before = np.clip(np.rint(middle).astype(int), 0, room)
    return np.pad(foreground, np.stack([before, room - before], axis=1))
