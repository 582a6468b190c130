"""Segmentation finds the foreground under any light."""

import numpy as np
import pytest

from tasks.imaging import segmentation

# A figure seven, 120 by 100, as ones on zeros.
SEVEN = np.zeros((120, 100))
SEVEN[20:32, 25:75] = 1
for row in range(20, 100):
    SEVEN[row, 75 - (row - 20) // 3 - 12 : 75 - (row - 20) // 3] = 1


def photograph(*, paper: float, pen: float, shadow: float, noise: float):
    y, x = np.mgrid[:120, :100] / 120
    light = 1 - shadow * (0.7 * x + 0.3 * y)
    random = np.random.default_rng(5).normal(size=SEVEN.shape) * noise
    return np.clip((paper + (pen - paper) * SEVEN) * light + random, 0, 255)


def overlap(found, wanted) -> float:
    shape = tuple(min(a, b) for a, b in zip(found.shape, wanted.shape, strict=True))
    a, b = (each[: shape[0], : shape[1]] > 0.5 for each in (found, wanted))
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize(
    "light",
    [
        {"paper": 255, "pen": 0, "shadow": 0, "noise": 0},
        {"paper": 0, "pen": 255, "shadow": 0, "noise": 0},
        {"paper": 220, "pen": 60, "shadow": 0.6, "noise": 12},
        {"paper": 40, "pen": 200, "shadow": 0.6, "noise": 12},
        # The paper in the shadow is darker than the pen in the light.
        {"paper": 230, "pen": 130, "shadow": 0.7, "noise": 3},
    ],
)
def test_foreground_is_found_in_either_polarity_in_shadow_and_noise(light):
    found = segmentation.find(photograph(**light))
    assert overlap(found, SEVEN[20:100, 25:75]) > 0.75


def test_specks_and_regions_at_the_edge_are_removed():
    page = photograph(paper=255, pen=0, shadow=0, noise=0)
    page[:, :3] = 0
    page[110:112, 90:92] = 0
    found = segmentation.find(page)
    assert found.shape == pytest.approx((80, 50), abs=2)


def test_noise_alone_has_no_foreground():
    noise = np.random.default_rng(1).normal(200, 6, (80, 80))
    with pytest.raises(segmentation.UnusableImage, match="no foreground was found"):
        segmentation.find(noise)


def test_thin_strokes_are_thickened_like_the_thinnest_of_mnist():
    line = np.zeros((200, 120), np.float32)
    line[:, 60] = line[100, :] = 1
    drawn = segmentation.scaled(line, 20)
    assert drawn.shape == (20, 12)
    assert 1.3 < drawn[5].sum() < 3


def test_the_longer_side_of_the_foreground_fills_the_box():
    assert segmentation.scaled(np.ones((300, 100), np.float32), 20).shape == (20, 7)
    assert segmentation.scaled(np.ones((3, 5), np.float32), 20).shape == (12, 20)
