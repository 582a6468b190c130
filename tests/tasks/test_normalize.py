import numpy as np
import pytest
from conftest import KIND
from hypothesis import given
from hypothesis import strategies as st

from tasks.dataset.splits import Split
from tasks.normalize import Normalize, normalize
from tasks.runtime.params import BadInput


def numbered(count: int) -> Split:
    """Images whose first pixel is their label."""
    numbers = np.arange(count, dtype=np.uint8)
    images = np.repeat(numbers, 4).reshape(count, 2, 2)
    images[:, 1, 1] = 255  # otherwise a single image would have no deviation
    return Split(images, numbers)


@given(st.integers(2, 200), st.integers(1, 199), st.integers(1, 50))
def test_validation_images_are_the_last_training_images(training, held_out, test):
    held_out = min(held_out, training - 1)
    parts, _ = normalize(
        numbered(training), numbered(test), KIND, Normalize(validation=held_out)
    )
    joined = np.concatenate([parts["train"].labels, parts["valid"].labels])
    np.testing.assert_array_equal(joined, numbered(training).labels)
    assert len(parts["valid"].labels) == held_out
    assert len(parts["test"].labels) == test
    for part in parts.values():
        np.testing.assert_array_equal(part.images[:, 0, 0], part.labels)


def test_scale_is_measured_on_training_images_alone():
    training = Split(np.uint8([[[0, 128]], [[255, 255]]]), np.uint8([0, 1]))
    _, facts = normalize(training, training, KIND, Normalize(validation=1))
    assert (facts.scale.mean, facts.scale.std) == (0.25, 0.25)


def test_holding_out_every_image_is_refused():
    with pytest.raises(BadInput, match="only 3 training images"):
        normalize(numbered(3), numbered(3), KIND, Normalize(validation=3))


def test_divisor_is_the_number_of_pixel_values():
    sixteen = KIND.model_copy(
        update={"form": KIND.form.model_copy(update={"brightest": 16})}
    )
    training = Split(np.uint8([[[0, 16]], [[16, 0]]]), np.uint8([0, 1]))
    _, facts = normalize(training, training, sixteen, Normalize(validation=1))
    assert facts.scale.divisor == 17
    assert facts.scale.mean == 8 / 17
