"""Find what was written in an image, however it was lit, and bring it to size.

The paper is a smooth surface, fitted to what is no ink, so that shadows and an uneven
light go with it. Ink is what stands out on one side of it: darker or brighter. Specks
and what hangs at the edges are left out.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from tasks.dataset.splits import Floats

# Outermost pixels, as a share of a side: mostly paper, however tight the crop.
EDGE = 0.04
ROUNDS = 6
# From a median of absolute deviations to a standard deviation, if they are normal.
MAD = 1.4826
# Ink stands out by so many standard deviations of the noise, and by so much of white.
SIGNIFICANT, LEAST = 5.0, 6.0
# Of the strongest ink: what is ink at all, and what a stroke has somewhere.
FAINT, STRONG = (0.25, 0.5), 0.55
SPECK = 0.08  # of the mass of the largest stroke
HANGING = 0.3
# Strokes are drawn at so many times the size of the box before they are reduced to it.
FINE = 4
# In pixels of the box. MNIST's are 2.9 wide (median), 5 % of them below 2.05.
THINNEST, THICKENED = 1.9, 2.4

Mask = npt.NDArray[np.bool_]


class Unusable(Exception):
    """An image in which nothing can be recognized; the message is the reason."""


def find(values: npt.NDArray[np.number]) -> Floats:
    """Return the ink of an image, (rows, columns) of any size, cropped to it: 0 to 1.

    Args:
        values: grey, 0 to 255.

    Raises:
        Unusable: nothing stands out from the background.
    """
    lit = np.pad(np.asarray(values, np.float64), 1, mode="edge")
    noise = _noise(lit)
    above = lit - _paper(lit, noise)
    # The side with the longer tail: a few strokes against much paper.
    if (above * above * above).sum() < 0:
        above = -above
    if noise > 1 and min(lit.shape) > 40:
        width = min(1.5, max(lit.shape) / 160)
        above = ndimage.gaussian_filter(above, width)
        noise /= 2 * np.sqrt(np.pi) * width
    strokes = np.clip(above, 0, None)
    strongest = float(
        np.sort(strokes, axis=None)[-max(3, strokes.size // 500) :].mean()
    )
    if strongest < max(SIGNIFICANT * noise, LEAST):
        raise Unusable("no ink was found: nothing in it stands out")
    faint = float(np.clip(_otsu(strokes), *np.multiply(FAINT, strongest)))
    mask = _strokes(strokes, faint, STRONG * strongest)
    full = float(np.median(strokes[mask])) * 0.95
    floor = faint / 2
    near = ndimage.binary_dilation(mask, iterations=2)
    grey = np.clip((strokes - floor) / max(full - floor, 1e-9), 0, 1) * near
    return _cropped(grey.astype(np.float32))


def scaled(foreground: Floats, box: int) -> Floats:
    """Return ink, scaled to fit a square of `box` pixels, its aspect kept.

    Strokes that would be thinner than almost any of MNIST's are drawn thicker.
    """
    fine = np.pad(_fitted(foreground, FINE * box), FINE)
    mask = fine > 0.5 * fine.max()
    # Across a stroke the distance to its edge goes from 0 to half of its width.
    width = 4 * ndimage.distance_transform_edt(mask)[mask].mean() / FINE
    if width < THINNEST:
        radius = FINE * (THICKENED - width) / 2
        fine = ndimage.grey_dilation(fine, footprint=_disc(radius))
        # Made small, thin lines were pale but where they cross.
        fine = np.clip(fine / np.median(fine[mask]), 0, 1)
    small = np.clip(_fitted(_cropped(fine), box), 0, 1)
    return np.asarray(small / max(float(small.max()), 1e-9), np.float32)


def box(mask: Mask) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of what is True; the last two are outside."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def centre(values: npt.NDArray[np.number]) -> tuple[float, float]:
    """Return row and column of the centre of mass, as indices."""
    mass = float(values.sum(dtype=np.float64))
    rows, columns = values.shape
    return (
        float(values.sum(axis=1, dtype=np.float64) @ np.arange(rows)) / mass,
        float(values.sum(axis=0, dtype=np.float64) @ np.arange(columns)) / mass,
    )


def _noise(values: npt.NDArray[np.float64]) -> float:
    """Return the standard deviation of the noise, from neighbours' differences."""
    across = np.abs(np.diff(values, axis=1))
    return float(MAD * np.median(across) / np.sqrt(2))


def _paper(values: npt.NDArray[np.float64], noise: float) -> npt.NDArray[np.float64]:
    """Return the background: a surface of degree 2, fitted to what lies close to it.

    It starts as a plane through the edges, where ink is rare.
    """
    rows, columns = (np.linspace(-1, 1, length) for length in values.shape)
    y, x = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2], axis=1)
    # To some thousands of the pixels it is fitted as well as to all.
    step = max(1, values.size // 8192) | 1
    some, at = values.ravel()[::step], terms[::step]
    edge = abs(at[:, 1:3]).max(axis=1) >= 1 - 2 * EDGE
    close = edge & (abs(some - np.median(some[edge])) <= _spread(some[edge]))
    for turn in range(ROUNDS):
        # Until the paper is known roughly, its middle is not looked at.
        known = 3 if turn < 2 else 6
        weights, *_ = np.linalg.lstsq(at[close, :known], some[close], rcond=None)
        off = abs(some - at[:, :known] @ weights)
        close = off <= max(2.5 * MAD * float(np.median(off[close])), 3 * noise, 3.0)
        if turn == 0:
            close &= edge
    return np.asarray((terms @ weights).reshape(values.shape))


def _spread(values: npt.NDArray[np.float64]) -> float:
    return float(3 * MAD * np.median(abs(values - np.median(values)))) + 10


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
    return float(centres[int(between.argmax())])


def _strokes(strokes: npt.NDArray[np.float64], faint: float, strong: float) -> Mask:
    """Return where strokes are: no specks, nothing that only hangs at the edge."""
    labels, count = ndimage.label(strokes > faint, np.ones((3, 3)))
    every = np.arange(1, count + 1)
    masses = np.asarray(ndimage.sum(strokes, labels, every))
    strongest = np.asarray(ndimage.maximum(strokes, labels, every))
    edges = np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])
    inside = ~np.isin(every, edges) & (strongest >= strong)
    if inside.any() and masses[inside].max() >= HANGING * masses.max():
        masses = np.where(inside, masses, 0)
    strong_regions = (masses >= SPECK * masses.max()) & (strongest >= strong)
    return np.isin(labels, every[strong_regions])


def _cropped(values: Floats) -> Floats:
    if not values.any():
        raise Unusable("no ink was found: nothing in it stands out")
    top, left, bottom, right = box(values > 0.1 * values.max())
    return values[top:bottom, left:right]


def _fitted(values: Floats, side: int) -> Floats:
    """Return `values` with `side` as the longer side, antialiased."""
    share = side / max(values.shape)
    rows, columns = (max(1, round(share * length)) for length in values.shape)
    image = Image.fromarray(np.ascontiguousarray(values))
    # Another resampling than this one has ripples or blurs.
    return np.asarray(image.resize((columns, rows), Image.Resampling.BICUBIC))


def _disc(radius: float) -> Mask:
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(x**2 + y**2 <= radius**2 + 0.3)
