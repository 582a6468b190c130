"""One image of any size and kind, brought to the form of the training set.

MNIST was made like this (Y. LeCun, "The MNIST database of handwritten digits"; LeCun,
Bottou, Bengio and Haffner 1998): ink bright on dark, scaled to fit a box of 20x20
pixels with its aspect kept, antialiased, and put into a field of 28x28 with its centre
of mass in the middle. `tasks.imaging.segmentation` finds the foreground first.
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
from tasks.imaging.segmentation import Unusable

FORMATS = ("PNG", "JPEG", "TIFF")
MANY_PAGES = ("PNG", "TIFF")  # the second picture in a JPEG file is a preview
# A photograph of a good camera. What is larger may be a bomb.
MAX_PIXELS = 64_000_000
MAX_PAGES = 10_000
# The longest side that is looked at: many times the box, and little work.
LONGEST = 256
WHITE = 255
# In pixels: how much larger or smaller than the box, and twice how far off the middle.
NEARLY = 4
# Of white. Paper that nobody wrote on has less contrast, noise included.
LEAST_CONTRAST = 8

Grey = npt.NDArray[np.floating] | Pixels


def read(path: Path) -> Iterator[Floats]:
    """Yield each page of the image at `path`, grey, (rows, columns), 0 to 255.

    Upright by its EXIF orientation; transparent parts lie on white paper; what is
    larger than `LONGEST` is made smaller.

    Raises:
        Unusable: it is no PNG, JPEG or TIFF image, is damaged, or too large; the pages
            before the damaged one have been given.
    """
    with _refusing():
        image = Image.open(path, formats=FORMATS)
    with image:
        for number in range(MAX_PAGES):
            with _refusing():
                try:
                    image.seek(number)
                except EOFError:
                    return
                page = _grey(image)
            yield page
            if image.format not in MANY_PAGES:
                return


def to_spec(values: Grey, image_spec: ImageSpec) -> Pixels:
    """Return an image, uint8 (rows, columns), of the training set's form.

    One that has it already is taken as it is.

    Args:
        values: grey, (rows, columns) of any size, 0 to 255, of either polarity.
        image_spec: that of the training set.

    Raises:
        Unusable: it is blank, or nothing in it stands out.
    """
    if values.size == 0 or values.max() == values.min():
        raise Unusable("it is blank")
    if conforms(values, image_spec):
        return values.astype(np.uint8)
    if values.max() - values.min() < LEAST_CONTRAST:
        raise Unusable("it is blank")
    if image_spec.box is None:
        return _pixels(_resized(values / WHITE, image_spec.shape), image_spec)
    foreground = segmentation.find(_reduced(values))
    return _pixels(
        _centred(segmentation.scaled(foreground, image_spec.box), image_spec.shape),
        image_spec,
    )


def conforms(values: Grey, image_spec: ImageSpec) -> bool:
    """Return whether an image, not blank, has been brought to `form` already.

    With a box: its ink is about as large as the box, its centre of mass near the
    middle, and what is around it has no value at all. All of MNIST's is so.
    """
    if (
        values.shape != image_spec.shape
        or values.max() > image_spec.brightest
        or values.min() < 0
    ):
        return False
    if image_spec.box is None:
        return True
    top, left, bottom, right = segmentation.box(values > 0)
    off = np.abs(np.array(segmentation.centre(values)) - np.array(image_spec.shape) / 2)
    longest = max(bottom - top, right - left)
    return abs(longest - image_spec.box) <= NEARLY and bool((off <= NEARLY / 2).all())


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged file into one reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that nobody reads here
            yield
    except (Unusable, GeneratorExit):
        raise
    except UnidentifiedImageError:
        raise Unusable("it is not a PNG, JPEG or TIFF image") from None
    except (Image.DecompressionBombError, MemoryError):
        raise Unusable("it is too large") from None
    except Exception as error:  # noqa: BLE001  # whatever decoders stumble over
        if isinstance(error, OSError) and error.strerror:
            raise Unusable(f"it can't be read: {error.strerror}") from None
        cut = "truncated" in str(error).lower()
        raise Unusable("it breaks off early" if cut else "it is damaged") from None


def _grey(image: Image.Image) -> Floats:
    """Return the present page."""
    if image.width * image.height > MAX_PIXELS:
        raise Unusable(
            f"it is too large: {image.width} x {image.height} pixels, where "
            f"{MAX_PIXELS:,} are allowed"
        )
    # JPEG alone can be decoded at half its size and less.
    image.draft("L", (LONGEST, LONGEST))
    page = ImageOps.exif_transpose(image)
    if page.mode.startswith(("I", "F")):
        page = Image.fromarray(_of_many_bits(np.asarray(page), page.mode))
    elif page.has_transparency_data:
        page = _on_paper(_smaller(page.convert("RGBA")))
    elif page.mode == "LAB":
        page = page.getchannel(0)
    elif page.mode not in ("L", "RGB"):
        page = page.convert("RGB")
    return np.asarray(
        _smaller(page).convert("L" if page.mode != "F" else "F"), np.float32
    )


def _smaller(image: Image.Image) -> Image.Image:
    if max(image.size) > LONGEST:
        image = image.copy()
        image.thumbnail((LONGEST, LONGEST), reducing_gap=2)
    return image


def _reduced(values: Grey) -> Grey:
    """Return `values`, no side of them longer than `LONGEST`."""
    if max(values.shape) <= LONGEST:
        return values
    return np.asarray(_smaller(Image.fromarray(values.astype(np.float32))))


def _of_many_bits(values: npt.NDArray[np.generic], mode: str) -> Floats:
    """Return values of more than 8 bits as 0 to 255.

    Of 16 bits, which a scanner may use 10 or 12 of, those that are used count; of
    others, the range.
    """
    floats = values.astype(np.float64)
    if not np.isfinite(floats).all():
        raise Unusable("it is damaged: not all of its pixels are numbers")
    low, high = float(floats.min()), float(floats.max())
    if mode.startswith("I;16"):
        low, high = 0.0, 2.0 ** max(8, int(high).bit_length()) - 1
    return ((floats - low) / max(high - low, 1e-9) * WHITE).astype(np.float32)


def _on_paper(image: Image.Image) -> Image.Image:
    """Return an RGBA image on white; white ink on nothing is seen by its outline."""
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image)
    grey = paper.convert("L")
    low, high = grey.getextrema()
    if float(high) - float(low) < LEAST_CONTRAST:  # type: ignore[arg-type]  # one band
        return ImageOps.invert(image.getchannel("A"))
    return grey


def _resized(values: npt.NDArray[np.floating], shape: tuple[int, int]) -> Floats:
    image = Image.fromarray(values.astype(np.float32))
    scaled = image.resize(shape[::-1], Image.Resampling.BICUBIC)
    return np.asarray(scaled, np.float32)


def _centred(foreground: Floats, shape: tuple[int, int]) -> Floats:
    """Return `inked` in a field of `shape`, its centre of mass in the middle."""
    field = np.zeros(shape, np.float32)
    where = []
    for axis, middle in enumerate(segmentation.centre(foreground)):
        room = shape[axis] - foreground.shape[axis]
        start = int(np.clip(round(shape[axis] / 2 - middle), 0, room))
        where.append(slice(start, start + foreground.shape[axis]))
    field[tuple(where)] = foreground
    return field


def _pixels(values: Floats, image_spec: ImageSpec) -> Pixels:
    """Return values of 0 to 1 as whole numbers up to the brightest."""
    pixels = np.rint(np.clip(values, 0, 1) * image_spec.brightest).astype(np.uint8)
    if pixels.max() == pixels.min():
        raise Unusable("nothing of it is left at the size of the training images")
    return pixels
