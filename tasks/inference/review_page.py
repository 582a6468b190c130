"""The review page: the images of which a model is least certain, as it saw them."""

import base64
import heapq
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from tasks.dataset.splits import Floats, Pixels
from tasks.inference.image_stream import shown
from tasks.inference.output_table import Rows

TEMPLATE = Path(__file__).with_name("review_page.html.j2")
# Of images that can't be used so many are named; all are in the table.
MOST_NAMED = 200
# Different reasons of which the number is kept.
MOST_REASONS = 100


class ReviewImage(NamedTuple):
    """An image and its prediction."""

    path: str
    image: int
    pixels: Pixels
    prediction: int
    probability: float
    runner_up: int
    reason: str


class ReviewQueue:
    """Keep the least certain of all images, and counts.

    Attributes:
        images: how many.
        set_aside: how many of them were, the unusable ones included.
        unusable: how many can't be used, by reason.
        unread: the first of those: path, image, reason.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # A heap: the most certain of them is the next to go, of equals the last.
        self._heap: list[tuple[float, int, ReviewImage]] = []
        self._limit = np.inf if most else -np.inf
        self._order = 0
        self.images = 0
        self.set_aside = 0
        self.unusable: Counter[str] = Counter()
        self.unread: list[tuple[str, int, str]] = []

    def add(self, rows: Rows, images: Pixels) -> None:
        """Take note of some rows, and of their images, (N, rows, columns)."""
        self.images += len(rows.file)
        self.set_aside += int(np.count_nonzero(rows.reason))
        if not rows.usable.all():
            self._note(rows)
        below = rows.usable & (rows.probability < self._limit)
        if not below.any():
            return
        near = np.flatnonzero(below)
        for row in near[np.argsort(rows.probability[near], kind="stable")].tolist():
            probability = float(rows.probability[row])
            if probability >= self._limit:
                break
            order = self._order = self._order - 1
            entry = (-probability, order, _review_image(rows, images, row))
            if len(self._heap) < self._most:
                heapq.heappush(self._heap, entry)
            else:
                heapq.heapreplace(self._heap, entry)
            if len(self._heap) == self._most:
                self._limit = -self._heap[0][0]

    def least_certain(self) -> list[ReviewImage]:
        """Return what is kept, the least certain first."""
        return [
            image._replace(path=shown(image.path))
            for *_, image in sorted(self._heap, reverse=True)
        ]

    def _note(self, rows: Rows) -> None:
        for row in np.flatnonzero(~rows.usable):
            reason = rows.reasons[rows.reason[row]]
            full = len(self.unusable) >= MOST_REASONS and reason not in self.unusable
            self.unusable["other reasons" if full else reason] += 1
            if len(self.unread) < MOST_NAMED:
                path = shown(rows.paths[rows.file[row]])
                self.unread.append((path, int(rows.image[row]), reason))


def render(
    queue: ReviewQueue,
    summary: Mapping[str, Any],
    class_names: tuple[str, ...],
    top: int,
) -> str:
    """Return the page as HTML.

    Args:
        queue: what to show.
        summary: which model made the predictions: see `tasks.predict`.
        class_names: by label.
        top: the value of the brightest pixel.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,  # names of files are anybody's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png"] = lambda pixels: png(pixels, top)
    return environment.get_template(TEMPLATE.name).render(
        images=queue.least_certain(),
        unread=queue.unread,
        summary=summary,
        class_names=class_names,
    )


def png(pixels: Pixels, top: int) -> str:
    """Return an image, uint8 (rows, columns), as a data URI, ink dark on white."""
    values: Floats = 255 - pixels.astype(np.float32) * np.float32(255 / top)
    buffer = io.BytesIO()
    Image.fromarray(values.round().astype(np.uint8)).save(
        buffer, "PNG", compress_level=1
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _review_image(rows: Rows, images: Pixels, row: int) -> ReviewImage:
    return ReviewImage(
        rows.paths[rows.file[row]],
        int(rows.image[row]),
        images[row].copy(),
        int(rows.prediction[row]),
        float(rows.probability[row]),
        int(rows.runner_up[row]),
        rows.reasons[rows.reason[row]],
    )
