"""The contact sheet: a page with the images of which the model is least certain."""

import base64
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from tasks.dataset.splits import Floats, Pixels
from tasks.inference.image_stream import display_path
from tasks.inference.output_table import Rows

TEMPLATE = Path(__file__).with_name("review_page.html.j2")
MAX_UNREAD = 200  # unusable images listed on the page; the table has all
MAX_REASONS = 100  # different reasons that are counted separately


class ReviewImage(NamedTuple):
    """An image and its prediction."""

    path: str
    image: int
    pixels: Pixels
    prediction: str
    probability: float
    runner_up: str
    reason: str


class ReviewQueue:
    """The least certain images, by ascending probability, and counts of images."""

    def __init__(self, size: int, class_names: tuple[str, ...]) -> None:
        self._size = size
        self._class_names = class_names
        self.images = 0
        self.set_aside = 0  # unusable images included
        self.unusable: Counter[str] = Counter()  # by reason
        self.unread: list[tuple[str, int, str]] = []  # the first: path, index, reason
        self.least_certain: list[ReviewImage] = []

    def add(self, rows: Rows, images: Pixels) -> None:
        """Add rows and their images, (N, rows, columns), which are copied."""
        self.images += len(images)
        self.set_aside += int(np.count_nonzero(rows.reason))
        path = display_path(rows.path)
        for row in np.flatnonzero(~rows.usable):
            reason = rows.reasons[rows.reason[row]]
            known = reason in self.unusable or len(self.unusable) < MAX_REASONS
            self.unusable[reason if known else "other reasons"] += 1
            if len(self.unread) < MAX_UNREAD:
                self.unread.append((path, rows.first + int(row), reason))
        label, probability, runner_up = rows.predictions
        queue = self.least_certain
        limit = queue[-1].probability if len(queue) == self._size > 0 else np.inf
        queue += [
            ReviewImage(
                path,
                rows.first + int(row),
                images[row].copy(),
                self._class_names[label[row]],
                float(probability[row]),
                self._class_names[runner_up[row]],
                rows.reasons[rows.reason[row]],
            )
            for row in np.flatnonzero(rows.usable & (probability < limit))
        ]
        queue.sort(key=lambda image: image.probability)
        del queue[self._size :]


def render(queue: ReviewQueue, summary: Mapping[str, Any], brightest: int) -> str:
    """Return the page as HTML.

    Args:
        queue: the images to show.
        summary: the content of `predictions.json`.
        brightest: the largest value of a pixel.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,  # file names are not trusted
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png"] = lambda pixels: png(pixels, brightest)
    return environment.get_template(TEMPLATE.name).render(queue=queue, summary=summary)


def png(pixels: Pixels, brightest: int) -> str:
    """Return an image, uint8 (rows, columns), as a data URI, dark on white."""
    values: Floats = 255 - pixels.astype(np.float32) * np.float32(255 / brightest)
    buffer = io.BytesIO()
    image = Image.fromarray(values.round().astype(np.uint8))
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
