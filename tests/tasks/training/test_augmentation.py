import collections

import pytest
import torch

from tasks.training.augmentation import Shifts


def shifts(furthest=1, shape=(3, 4), seed=0) -> Shifts:
    return Shifts(furthest, shape, torch.Generator().manual_seed(seed))


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
def test_an_image_is_moved_and_paper_filled_in(down, right, expected):
    image = torch.tensor(IMAGE, dtype=torch.uint8).reshape(1, 12)
    before = image.clone()
    moved = shifts().moved(image, torch.tensor([[down, right]]))
    assert moved.dtype == torch.uint8
    assert moved.reshape(3, 4).tolist() == expected
    torch.testing.assert_close(image, before)


def test_each_image_goes_its_own_way():
    pixels = torch.tensor([IMAGE, IMAGE], dtype=torch.uint8).reshape(2, 12)
    moved = shifts(2).moved(pixels, torch.tensor([[2, 2], [-2, -2]]))
    assert moved.reshape(2, 3, 4).tolist() == [
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 2]],
        [[11, 12, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]


def test_every_shift_is_as_likely_and_of_the_generator_alone():
    drawn = shifts(2).draw(25_000)
    counts = collections.Counter(map(tuple, drawn.tolist()))
    assert set(counts) == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    assert all(850 < count < 1150 for count in counts.values())
    torch.testing.assert_close(shifts(2).draw(25_000), drawn)
    assert not torch.equal(shifts(2, seed=1).draw(25_000), drawn)
