"""Grey images, uint8 from 0, out of arrays as people keep them.

Taken are whole numbers of 0 to 255, of any type; shares of 0 to 1, which become 0 to
255; images as rows of pixels, if they are square; colours, which become grey.
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
# ITU-R 601, as Pillow computes it: of 2^16.
RED, GREEN, BLUE, HALF = 19595, 38470, 7471, 1 << 15
# Of a grey image, alone or as colours; with transparency nobody can say what is ink.
CHANNELS = (1, 3)


def images(
    arrays: Mapping[Key, npt.NDArray[Any]], origin: str
) -> tuple[dict[Key, Pixels], list[str]]:
    """Return arrays that belong together as images, and what was done, in sentences.

    Args:
        arrays: (N, rows, columns), (N, rows, columns, 1 or 3) or (N, pixels), of any
            type of number; shares of 0 to 1 if none of all is larger.
        origin: where they are from, for errors.

    Returns:
        uint8, (N, rows, columns), all of one shape.

    Raises:
        BadInput: a value can't be a pixel, or a shape none of images.
    """
    shares = _are_shares(arrays, origin)
    found, notes = {}, []
    for key, array in arrays.items():
        values, note = _shaped(_bytes(array, origin, shares=shares), origin)
        found[key] = values
        notes += note
    if shares:
        notes.insert(0, "pixels are shares of 0 to 1, which become 0 to 255")
    if len({values.shape[1:] for values in found.values()}) > 1:
        raise BadInput(f"{origin} has images of several shapes.")
    return found, list(dict.fromkeys(notes))


def _are_shares(arrays: Mapping[Key, npt.NDArray[Any]], origin: str) -> bool:
    """Return whether the pixels are of 0 to 1, once none is what no pixel can be."""
    highest = 0.0
    for array in arrays.values():
        if array.dtype.kind not in "buif":
            raise BadInput(f"{origin} has images of {array.dtype}, not of numbers.")
        if not array.size:
            raise BadInput(f"{origin} has no images.")
        low, high = float(array.min()), float(array.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BadInput(
                f"{origin} has pixels that are no numbers (NaN or infinite)."
            )
        if low < 0 or high > WHITE:
            raise BadInput(
                f"{origin} has pixels of {low:g} to {high:g}; 0 to 255, or shares of 0 "
                "to 1, are understood."
            )
        highest = max(highest, high)
    floats = any(array.dtype.kind == "f" for array in arrays.values())
    return floats and highest <= 1


def _bytes(array: npt.NDArray[Any], origin: str, *, shares: bool) -> Pixels:
    if shares:
        return np.rint(array.astype(np.float64) * WHITE).astype(np.uint8)
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise BadInput(
            f"{origin} has pixels that are neither whole numbers nor all of 0 to 1."
        )
    return array.astype(np.uint8)


def _shaped(values: Pixels, origin: str) -> tuple[Pixels, list[str]]:
    """Return the images as (N, rows, columns), and what was done to them."""
    match values.shape:
        case (_, _, _):
            return values, []
        case (count, size) if math.isqrt(size) ** 2 == size:
            side = math.isqrt(size)
            return values.reshape(count, side, side), [
                f"each row of {size} pixels is an image of {side} x {side}"
            ]
        case (_, _, _, channels) if channels in CHANNELS:
            if channels == 1:
                return values[..., 0], []
            return _grey(values), ["colours become grey (ITU-R 601)"]
    raise BadInput(
        f"{origin} has images of shape {values.shape}; (N, rows, columns), the same "
        "with 1 or 3 channels, and (N, pixels) of square images are understood."
    )


def _grey(values: Pixels) -> Pixels:
    red, green, blue = (values[..., channel].astype(np.uint32) for channel in range(3))
    weighed = RED * red + GREEN * green + BLUE * blue + HALF
    return (weighed >> 16).astype(np.uint8)
