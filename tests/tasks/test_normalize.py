import numpy as np
import pytest
from conftest import KIND, TEST, TRAIN, VALID
from hypothesis import given
from hypothesis import strategies as st

from tasks.dataset.splits import Split
from tasks.normalize import Normalize, normalize
from tasks.runtime.params import BadInput


def numbered(count: int) -> Split:
    """Images that can be told apart by their label."""
    numbers = np.arange(count, dtype=np.uint8)
    images = np.repeat(numbers, 4).reshape(count, 2, 2)
    images[:, 1, 1] = 255  # or else one image alone would have no deviation
    return Split(images, numbers)


@given(st.integers(2, 200), st.integers(1, 199), st.integers(1, 50))
def test_splits_are_disjoint_and_complete(training, held_out, test):
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


def test_the_scale_is_of_the_training_images_alone():
    training = Split(np.uint8([[[0, 128]], [[255, 255]]]), np.uint8([0, 1]))
    _, facts = normalize(training, training, KIND, Normalize(validation=1))
    assert (facts.scale.mean, facts.scale.std) == (0.25, 0.25)


def test_holding_out_every_image_is_refused():
    with pytest.raises(BadInput, match="is 3, but there are only 3 training images"):
        normalize(numbered(3), numbered(3), KIND, Normalize(validation=3))


def test_the_small_data_set_is_split_like_the_large_one(digits):
    training = Split(
        digits["train-images-idx3-ubyte"], digits["train-labels-idx1-ubyte"]
    )
    test = Split(digits["t10k-images-idx3-ubyte"], digits["t10k-labels-idx1-ubyte"])
    parts, _ = normalize(training, test, KIND, Normalize(validation=VALID))
    counts = {name: part.images.shape for name, part in parts.items()}
    assert counts == {
        "train": (TRAIN, 28, 28),
        "valid": (VALID, 28, 28),
        "test": (TEST, 28, 28),
    }


def test_the_divisor_is_the_number_of_values_that_a_pixel_can_have():
    sixteen = KIND.model_copy(
        update={"form": KIND.form.model_copy(update={"brightest": 16})}
    )
    training = Split(np.uint8([[[0, 16]], [[16, 0]]]), np.uint8([0, 1]))
    _, facts = normalize(training, training, sixteen, Normalize(validation=1))
    assert facts.scale.divisor == 17
    assert facts.scale.mean == 8 / 17
