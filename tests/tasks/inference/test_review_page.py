"""The contact sheet has the least certain images first, and its text is escaped."""

import base64
import io

import numpy as np
from handmade import upright
from PIL import Image

from tasks.inference import review_page
from tasks.inference.classifier import Predictions
from tasks.inference.output_table import Rows
from tasks.inference.review_page import ReviewQueue

SUMMARY = {
    "model": "scratch_adam",
    "md5": "9" * 32,
    "revision": "0123456789ab",
    "threshold": 0.95,
    "max_error": 0.01,
    "form": [28, 28],
    "images": 4,
    "set_aside": 2,
    "unusable": 1,
}


def rows(*probabilities: float, unusable=(), path="<script>x</script>.png") -> Rows:
    count = len(probabilities)
    usable = np.array([row not in unusable for row in range(count)])
    predictions = Predictions(
        np.ones(count, np.intp),
        np.array(probabilities, np.float32),
        np.zeros(count, np.intp),
    )
    reason = np.where(usable, 0, 1).astype(np.int32)
    return Rows(path, 0, predictions, usable, reason, ["", "it is blank"])


def filled(size: int, *batches: Rows) -> ReviewQueue:
    queue = ReviewQueue(size, ("a", "<b>"))
    for batch in batches:
        queue.add(batch, np.stack([upright()] * len(batch.usable)))
    return queue


def test_the_queue_has_the_least_certain_images_and_the_first_of_equal_ones():
    queue = filled(3, rows(0.9, 0.5, 0.7), rows(0.5, 0.95, 0.6), rows(0.5, 0.4))
    found = [
        (round(image.probability, 2), image.image) for image in queue.least_certain
    ]
    assert found == [(0.4, 1), (0.5, 1), (0.5, 0)]
    assert queue.images == 8


def test_an_empty_contact_sheet_is_possible():
    assert filled(0, rows(0.1, 0.2)).least_certain == []


def test_images_are_copied_from_the_batch():
    images = np.stack([upright()])
    queue = ReviewQueue(1, ("a", "b"))
    queue.add(rows(0.5), images)
    images[:] = 0
    assert (queue.least_certain[0].pixels == upright()).all()


def test_unusable_images_are_counted_and_listed():
    queue = filled(5, rows(0.9, 0.1, 0.2, unusable=(1, 2)))
    assert [image.image for image in queue.least_certain] == [0]
    assert queue.unusable == {"it is blank": 2}
    assert queue.set_aside == 2
    assert queue.unread[0] == ("<script>x</script>.png", 1, "it is blank")


def test_the_lists_of_unusable_images_and_reasons_are_limited(monkeypatch):
    monkeypatch.setattr(review_page, "MAX_REASONS", 1)
    monkeypatch.setattr(review_page, "MAX_UNREAD", 2)
    blank = rows(0.9, 0.9, unusable=(0, 1))
    queue = filled(5, blank, blank._replace(reasons=["", "it is damaged"]))
    assert queue.unusable == {"it is blank": 2, "other reasons": 2}
    assert len(queue.unread) == 2


def test_file_names_are_escaped_on_the_page():
    queue = filled(5, rows(0.9, 0.5, 0.2, unusable=(2,)))
    page = review_page.render(queue, SUMMARY, 255)
    assert "<script" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;.png") == 3
    assert "&lt;b&gt;" in page
    assert page.index("0.5000") < page.index("0.9000")
    assert "1 that can't be used" in page


def test_images_are_shown_dark_on_white():
    uri = review_page.png(upright() // 255 * 16, 16)
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert (np.asarray(Image.open(io.BytesIO(content))) == 255 - upright()).all()
