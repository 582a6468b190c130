import collections

import pytest
import torch

from tasks.training.augmentation import RandomShifts


def shifts(max_pixels=1, shape=(3, 4), seed=0) -> RandomShifts:
    return RandomShifts(max_pixels, shape, torch.Generator().manual_seed(seed))


IMAGE = [
    [1, 2, 3, 4],
    [5, 6, 7, 8],
    [9, 10, 11, 12],
]


@pytest.mark.parametrize(
    ("down", "right", "expected"),
    [
        (0, 0, IMAGE),
        (1, 0, [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]),
        (-1, 0, [[5, 6, 7, 8], [9, 10, 11, 12], [0, 0, 0, 0]]),
        (0, 1, [[0, 1, 2, 3], [0, 5, 6, 7], [0, 9, 10, 11]]),
        (1, -1, [[0, 0, 0, 0], [2, 3, 4, 0], [6, 7, 8, 0]]),
    ],
)
def test_shifted_image_is_filled_with_zeros(down, right, expected):
    image = torch.tensor(IMAGE, dtype=torch.uint8).reshape(1, 12)
    before = image.clone()
    shifted = shifts().shift(image, torch.tensor([[down, right]]))
    assert shifted.dtype == torch.uint8
    assert shifted.reshape(3, 4).tolist() == expected
    torch.testing.assert_close(image, before)


def test_every_image_has_its_own_shift():
    pixels = torch.tensor([IMAGE, IMAGE], dtype=torch.uint8).reshape(2, 12)
    shifted = shifts(2).shift(pixels, torch.tensor([[2, 2], [-2, -2]]))
    assert shifted.reshape(2, 3, 4).tolist() == [
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 2]],
        [[11, 12, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]


def test_shifts_are_uniform_and_depend_only_on_the_generator():
    pixels = torch.zeros(25_000, 25, dtype=torch.uint8)
    pixels[:, 12] = 1  # the pixel in the middle shows where the image went
    shifted = shifts(2, (5, 5))(pixels)
    counts = collections.Counter(shifted.argmax(dim=1).tolist())
    assert sorted(counts) == list(range(25))
    assert all(850 < count < 1150 for count in counts.values())
    torch.testing.assert_close(shifts(2, (5, 5))(pixels), shifted)
    assert not torch.equal(shifts(2, (5, 5), seed=1)(pixels), shifted)
