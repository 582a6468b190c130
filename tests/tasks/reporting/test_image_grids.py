import itertools

import numpy as np

from tasks.reporting import image_grids

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (8, 28, 28), dtype=np.uint8)
LABELS = np.arange(8)


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_mosaic_holds_every_image_with_blank_gaps():
    images = np.arange(1.0, 6).reshape(5, 1, 1)
    whole, tops = image_grids.mosaic(images, columns=3)
    gap = np.nan
    np.testing.assert_array_equal(
        whole,
        [
            [1, gap, gap, 2, gap, gap, 3],
            [gap] * 7,
            [gap] * 7,
            [4, gap, gap, 5, gap, gap, gap],
        ],
    )
    assert tops == [(0, -0.5), (3, -0.5), (6, -0.5), (0, 2.5), (3, 2.5)]


def test_crop_shows_pixel_values():
    axes = image_grids.crop(IMAGES[0], slice(10, 12), slice(3, 5))
    assert texts(axes) == [str(value) for value in IMAGES[0][10:12, 3:5].ravel()]
    assert axes.get_title(loc="center") + axes.get_title(loc="left") == (
        "Rows 10 to 11, columns 3 to 4"
    )


def test_wrong_predictions_are_bold_and_labels_come_first():
    axes = image_grids.predictions(
        IMAGES, LABELS, {"wrong": LABELS + 1, "good": LABELS}
    )
    assert texts(axes)[:3] == ["good", "0", "1"]
    weights = {
        name: {text.get_fontweight() for text in axes.texts[start : start + 8]}
        for name, start in [("good", 1), ("wrong", 10), ("label", 19)]
    }
    assert weights == {"good": {"normal"}, "wrong": {"bold"}, "label": {"normal"}}
    heights = [axes.texts[start].xyann[1] for start in (0, 9, 18)]
    assert heights == sorted(heights), "labels are the top line"


def test_mistakes_show_label_prediction_and_probability():
    axes = image_grids.mistakes(IMAGES[:2], [3, 5], [8, 6], [0.987, 0.5])
    assert texts(axes) == ["3 as 8, 0.99", "5 as 6, 0.50"]


def test_weights_of_all_models_share_one_scale():
    small, large = RANDOM.normal(size=(2, 784, 10)) * [[[1]], [[3]]]
    axes = image_grids.weights({"small": small, "large": large}, (28, 28), "0123456789")
    (image,) = axes.images
    low, high = image.get_clim()
    assert low == -high
    assert high > np.abs(small).max()
    assert texts(axes)[-2:] == ["small", "large"]


def test_mean_images_have_class_names():
    axes = image_grids.means(
        {"3": IMAGES[0].astype(float), "7": IMAGES[1].astype(float)}
    )
    assert texts(axes) == ["3", "7"]


def test_title_of_an_image_is_its_class():
    axes = image_grids.first_image(IMAGES[0], "five")
    assert "five" in axes.get_title(loc="left") + axes.get_title()


def test_long_class_names_do_not_overlap():
    axes = image_grids.mistakes(
        IMAGES[[0, 1] * 6], ["triangle"] * 12, ["circle"] * 12, [0.9] * 12
    )

    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    for left, right in itertools.combinations(boxes, 2):
        assert not left.overlaps(right)


def test_few_images_stay_small():
    axes = image_grids.weights({"a": RANDOM.normal(size=(784, 3))}, (28, 28), "xyz")
    width, height = axes.get_figure().get_size_inches()
    assert (width, round(height, 1)) == (1.3 + 3, 1.2)
