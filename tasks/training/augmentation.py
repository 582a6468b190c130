"""Small random shifts of images: more to learn from than there is in the file."""

import torch
from torch import Tensor
from torch.nn import functional

PAPER = 0  # the pixel of an image's ground


class Shifts:
    """Shifts of up to `furthest` pixels up, down, left and right, all as likely.

    Args:
        furthest: pixels, from 1.
        shape: rows and columns of an image.
        generator: of the shifts; on the CPU.
    """

    def __init__(
        self, furthest: int, shape: tuple[int, int], generator: torch.Generator
    ) -> None:
        self.generator = generator
        self._furthest = furthest
        self._shape = shape

    def draw(self, count: int) -> Tensor:
        """Return how far to move each of `count` images down and right, (count, 2)."""
        furthest = self._furthest
        return torch.randint(
            -furthest, furthest + 1, (count, 2), generator=self.generator
        )

    def moved(self, pixels: Tensor, by: Tensor) -> Tensor:
        """Return images moved, with paper where nothing was.

        Args:
            pixels: uint8 (N, rows * columns).
            by: what `draw` returned, (N, 2), on the same device.
        """
        rows, columns = self._shape
        images = pixels.reshape(-1, rows, columns)
        padded = functional.pad(images, (self._furthest,) * 4, value=PAPER)
        # Where in the padded image each row and column of the moved one comes from.
        starts = self._furthest - by
        down = starts[:, 0, None] + torch.arange(rows, device=by.device)
        right = starts[:, 1, None] + torch.arange(columns, device=by.device)
        images_in_turn = torch.arange(len(images), device=by.device)[:, None, None]
        moved = padded[images_in_turn, down[:, :, None], right[:, None, :]]
        return moved.reshape(len(images), rows * columns)
