"""The contact sheet: the least certain first, and nothing that a name could do."""

import base64
import io

import numpy as np
from handmade import upright
from PIL import Image

from tasks.inference import review_page
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
    return Rows(
        [path],
        np.zeros(count, np.int32),
        np.arange(count),
        np.ones(count, np.intp),
        np.array(probabilities, np.float32),
        np.zeros(count, np.intp),
        usable,
        ["", "it is blank"],
        np.where(usable, 0, 1).astype(np.int32),
    )


def filled(most: int, *several: Rows) -> ReviewQueue:
    noted = ReviewQueue(most)
    for each in several:
        noted.add(each, np.stack([upright()] * len(each.file)))
    return noted


def test_the_least_certain_are_kept_in_order_and_of_equals_the_first():
    noted = filled(3, rows(0.9, 0.5, 0.7), rows(0.5, 0.95, 0.6), rows(0.5, 0.4))
    kept = [(round(c.probability, 2), c.image) for c in noted.least_certain()]
    assert kept == [(0.4, 1), (0.5, 1), (0.5, 0)]
    assert noted.images == 8


def test_of_one_batch_the_more_certain_take_no_place():
    kept = filled(2, rows(0.3, 0.1, 0.2)).least_certain()
    assert [contact.image for contact in kept] == [1, 2]


def test_a_sheet_of_none_keeps_none():
    assert filled(0, rows(0.1, 0.2)).least_certain() == []


def test_what_can_not_be_used_is_counted_and_named():
    noted = filled(5, rows(0.9, 0.1, 0.2, unusable=(1, 2)))
    assert [c.image for c in noted.least_certain()] == [0]
    assert noted.unusable == {"it is blank": 2}
    assert noted.set_aside == 2
    assert noted.unread[0] == ("<script>x</script>.png", 1, "it is blank")


def test_no_name_of_a_file_is_part_of_the_page():
    noted = filled(5, rows(0.9, 0.5, 0.2, unusable=(2,)))
    page = review_page.render(noted, SUMMARY, ("a", "<b>"), 255)
    assert "<script" not in page
    assert page.count("&lt;script&gt;x&lt;/script&gt;.png") == 3
    assert "&lt;b&gt;" in page
    assert page.index("0.5000") < page.index("0.9000")
    assert "1 that can&#39;t be used" in page or "1 that can't be used" in page


def test_ink_is_dark_on_white_whatever_the_brightest_value():
    uri = review_page.png(upright() // 255 * 16, 16)
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert (np.asarray(Image.open(io.BytesIO(content))) == 255 - upright()).all()
