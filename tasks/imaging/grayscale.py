"""Convert arrays of images to grayscale uint8 from 0.

Accepts whole numbers of 0 to 255 of any type; fractions of 0 to 1, which are scaled to
0 to 255; rows of pixels of square images; colors, which are converted to luma.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.dataset.splits import Pixels
from tasks.runtime.params import BadInput

Key = TypeVar("Key")
WHITE = 255
# Luma of red, green and blue by ITU-R 601, in 2^-16, as Pillow computes it.
LUMA = np.array([19595, 38470, 7471], np.uint32)


def images(
    arrays: Mapping[Key, npt.NDArray[Any]], origin: str
) -> tuple[dict[Key, Pixels], list[str]]:
    """Convert the arrays of one data set; also return notes on what was done.

    Args:
        arrays: (N, rows, columns), (N, rows, columns, 1 or 3) or (N, pixels), of any
            type of number; fractions if some are floats and none is larger than 1.
        origin: of the arrays, for errors.

    Returns:
        uint8, (N, rows, columns), all of one shape.

    Raises:
        BadInput: a value can't be a pixel, or a shape can't be of images.
    """
    for array in arrays.values():
        if array.dtype.kind not in "buif" or not array.size:
            raise BadInput(
                f"{origin} has no images of numbers, but {array.dtype} of shape "
                f"{array.shape}."
            )
    has_floats = any(array.dtype.kind == "f" for array in arrays.values())
    are_fractions = has_floats and all(array.max() <= 1 for array in arrays.values())
    notes = ["pixels of 0 to 1 were scaled to 0 to 255"] if are_fractions else []
    result = {}
    for key, array in arrays.items():
        values = np.rint(array.astype(np.float64) * WHITE) if are_fractions else array
        with np.errstate(invalid="ignore"):
            pixels = values.astype(np.uint8)
        if not np.array_equal(pixels, values):
            raise BadInput(
                f"{origin} has pixels of {array.min():g} to {array.max():g}; only "
                "whole numbers of 0 to 255 and fractions of 0 to 1 are supported."
            )
        result[key], note = _grayscale(pixels, origin)
        notes += [note] if note and note not in notes else []
    if len({pixels.shape[1:] for pixels in result.values()}) > 1:
        raise BadInput(f"{origin} has images of several shapes.")
    return result, notes


def _grayscale(pixels: Pixels, origin: str) -> tuple[Pixels, str]:
    """Return images as (N, rows, columns), and a note on what was done."""
    match pixels.shape:
        case (_, _, _):
            return pixels, ""
        case (count, size) if math.isqrt(size) ** 2 == size:
            side = math.isqrt(size)
            note = f"rows of {size} pixels became images of {side} x {side}"
            return pixels.reshape(count, side, side), note
        case (_, _, _, 1):
            return pixels[..., 0], ""
        case (_, _, _, 3):
            luma = (pixels @ LUMA + (1 << 15)) >> 16
            return luma.astype(np.uint8), "colors became grayscale (ITU-R 601)"
    raise BadInput(
        f"{origin} has images of shape {pixels.shape}; only (N, rows, columns), the "
        "same with 1 or 3 channels, and (N, pixels) of square images are supported."
    )
