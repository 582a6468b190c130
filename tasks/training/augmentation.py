"""Random shifts of the training images, by a few pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tasks.modeling.architectures import Shape


@dataclass
class RandomShifts:
    """Uniform random shifts, up, down, left and right, by up to `max_pixels`."""

    max_pixels: int
    shape: Shape
    generator: torch.Generator

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return every image shifted at random."""
        limit = self.max_pixels
        size = (len(pixels), 2)
        offsets = torch.randint(-limit, limit + 1, size, generator=self.generator)
        return self.shift(pixels, offsets.to(pixels.device))

    def shift(self, pixels: Tensor, offsets: Tensor) -> Tensor:
        """Return images, uint8 (N, pixels), shifted; the pixels that become free are 0.

        `offsets`, (N, 2), are pixels down and right, on the same device.
        """
        rows, columns = self.shape
        images = pixels.reshape(-1, rows, columns)
        padded = functional.pad(images, (self.max_pixels,) * 4)
        # Each row and column of the result comes from this one of the padded image.
        starts = self.max_pixels - offsets
        y = starts[:, 0, None] + torch.arange(rows, device=offsets.device)
        x = starts[:, 1, None] + torch.arange(columns, device=offsets.device)
        image = torch.arange(len(images), device=offsets.device)[:, None, None]
        return padded[image, y[:, :, None], x[:, None, :]].reshape(len(images), -1)
