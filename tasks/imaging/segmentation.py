"""Find the handwriting in an image under any light, and scale it.

The background is a smooth surface fitted to the paper, so shadows and uneven light are
removed with it. The foreground is what differs from it in one direction, darker or
brighter. Specks, and regions that touch the edge of the image, are removed.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from tasks.dataset.splits import Floats

# Outermost pixels, as a fraction of a side: mostly paper, however tight the crop.
EDGE = 0.04
ROUNDS = 6
# Converts a median of absolute deviations to the standard deviation of a normal one.
MAD = 1.4826
# Least foreground, in standard deviations of the noise, and in intensity of 0 to 255.
SIGNIFICANT, LEAST = 5.0, 6.0
# Fractions of the strongest foreground: limits of the threshold, and the least maximum
# of a stroke.
FAINT, STRONG = (0.25, 0.5), 0.55
SPECK = 0.08  # of the sum of the largest stroke
# Also of that sum: if a stroke inside reaches it, strokes at the edge are removed.
INSIDE = 0.3
# Strokes are drawn at this multiple of the size of the box, then reduced.
FINE = 4
# In pixels of the box. MNIST's strokes are 2.9 wide (median), 5 % of them below 2.05.
THINNEST, THICKENED = 1.9, 2.4

Mask = npt.NDArray[np.bool_]


class UnusableImage(Exception):
    """An image that can't be classified; the message is the reason."""


def find(values: npt.NDArray[np.number]) -> Floats:
    """Return the foreground of a grayscale image of 0 to 255, cropped: 0 to 1.

    Raises UnusableImage if nothing differs enough from the background.
    """
    padded = np.pad(np.asarray(values, np.float64), 1, mode="edge")
    differences = np.abs(np.diff(padded, axis=1))  # of neighbours, mostly noise
    noise = float(MAD * np.median(differences) / np.sqrt(2))
    above = padded - _background(padded, noise)
    # The side with the longer tail: a few strokes against much paper.
    if (above * above * above).sum() < 0:
        above = -above
    if noise > 1 and min(padded.shape) > 40:
        width = min(1.5, max(padded.shape) / 160)
        above = ndimage.gaussian_filter(above, width)
        noise /= 2 * np.sqrt(np.pi) * width
    strokes = np.clip(above, 0, None)
    count = max(3, strokes.size // 500)
    strongest = float(np.sort(strokes, axis=None)[-count:].mean())
    if strongest < max(SIGNIFICANT * noise, LEAST):
        raise UnusableImage("no foreground was found: nothing in it stands out")
    faint = float(np.clip(_otsu(strokes), *np.multiply(FAINT, strongest)))
    mask = _strokes(strokes, faint, STRONG * strongest)
    full = float(np.median(strokes[mask])) * 0.95
    floor = faint / 2
    near = ndimage.binary_dilation(mask, iterations=2)
    foreground = np.clip((strokes - floor) / max(full - floor, 1e-9), 0, 1) * near
    return _cropped(foreground.astype(np.float32))


def scaled(foreground: Floats, box: int) -> Floats:
    """Scale the foreground to fit a square of `box` pixels, with its aspect kept.

    Strokes that would be thinner than almost any of MNIST's are thickened.
    """
    fine = np.pad(_resized(foreground, FINE * box), FINE)
    mask = fine > 0.5 * fine.max()
    # Across a stroke the distance to its edge goes from 0 to half of its width.
    width = 4 * ndimage.distance_transform_edt(mask)[mask].mean() / FINE
    if width < THINNEST:
        radius = FINE * (THICKENED - width) / 2
        reach = int(np.ceil(radius))
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        fine = ndimage.grey_dilation(fine, footprint=x**2 + y**2 <= radius**2 + 0.3)
        # Thin lines became pale when reduced, except where they cross.
        fine = np.clip(fine / np.median(fine[mask]), 0, 1)
    small = np.clip(_resized(_cropped(fine), box), 0, 1)
    return np.asarray(small / max(float(small.max()), 1e-9), np.float32)


def box(mask: Mask) -> tuple[int, int, int, int]:
    """Return the bounding box of True: top, left, and bottom, right, both exclusive."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def centre(values: npt.NDArray[np.number]) -> tuple[float, float]:
    """Return row and column of the centre of mass, as indices."""
    mass = float(values.sum(dtype=np.float64))
    row, column = (
        float(values.sum(axis=1 - axis, dtype=np.float64) @ np.arange(length)) / mass
        for axis, length in enumerate(values.shape)
    )
    return row, column


def _background(
    values: npt.NDArray[np.float64], noise: float
) -> npt.NDArray[np.float64]:
    """Fit a surface of degree 2 to the paper, which are the pixels close to it.

    The first fit is a plane through the edges, where strokes are rare.
    """
    rows, columns = (np.linspace(-1, 1, length) for length in values.shape)
    y, x = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2], axis=1)
    # Some thousands of the pixels give as good a fit as all of them.
    step = max(1, values.size // 8192) | 1
    sample, sample_terms = values.ravel()[::step], terms[::step]
    edge = abs(sample_terms[:, 1:3]).max(axis=1) >= 1 - 2 * EDGE
    off = abs(sample - np.median(sample[edge]))
    close = edge & (off <= 3 * MAD * float(np.median(off[edge])) + 10)
    for turn in range(ROUNDS):
        # The middle is fitted only once the paper is known roughly.
        degree = 3 if turn < 2 else 6
        fitted = sample_terms[:, :degree]
        weights, *_ = np.linalg.lstsq(fitted[close], sample[close], rcond=None)
        off = abs(sample - fitted @ weights)
        close = off <= max(2.5 * MAD * float(np.median(off[close])), 3 * noise, 3.0)
        if turn == 0:
            close &= edge
    return np.asarray((terms @ weights).reshape(values.shape))


def _otsu(values: npt.NDArray[np.float64]) -> float:
    """Return the threshold that separates two classes best (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=128)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = sums / below - (sums[-1] - sums) / above
    between = np.nan_to_num(below * above * difference**2)
    return float(centres[between.argmax()])


def _strokes(strokes: npt.NDArray[np.float64], faint: float, strong: float) -> Mask:
    """Return the mask of the strokes, without specks and regions at the edge."""
    labels, count = ndimage.label(strokes > faint, np.ones((3, 3)))
    regions = np.arange(1, count + 1)
    masses = np.asarray(ndimage.sum(strokes, labels, regions))
    strongest = np.asarray(ndimage.maximum(strokes, labels, regions))
    edges = np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])
    inside = ~np.isin(regions, edges) & (strongest >= strong)
    if inside.any() and masses[inside].max() >= INSIDE * masses.max():
        masses = np.where(inside, masses, 0)
    is_stroke = (masses >= SPECK * masses.max()) & (strongest >= strong)
    return np.isin(labels, regions[is_stroke])


def _cropped(values: Floats) -> Floats:
    if not values.any():
        raise UnusableImage("no foreground was found: nothing in it stands out")
    top, left, bottom, right = box(values > 0.1 * values.max())
    return values[top:bottom, left:right]


def _resized(values: Floats, side: int) -> Floats:
    """Resize `values` to `side` pixels on the longer side, antialiased."""
    scale = side / max(values.shape)
    rows, columns = (max(1, round(scale * length)) for length in values.shape)
    image = Image.fromarray(np.ascontiguousarray(values))
    # Other resampling filters cause ripples or blur.
    return np.asarray(image.resize((columns, rows), Image.Resampling.BICUBIC))
