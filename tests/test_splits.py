import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks import splits
from tasks.settings import BadInput
from tasks.splits import Scale, Split

SOME = Split(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.uint8([1, 0]))
SCALE = Scale(divisor=256, mean=0.25, std=0.5)


def test_what_is_saved_is_loaded(tmp_path):
    splits.save(tmp_path, {"train": SOME, "valid": SOME, "test": SOME}, SCALE)
    assert splits.load_scale(tmp_path) == SCALE
    for name in splits.SPLITS:
        split = splits.load(tmp_path, name)
        np.testing.assert_array_equal(split.images, SOME.images)
        np.testing.assert_array_equal(split.labels, SOME.labels)


def test_inputs_are_pixels_over_256_less_mean_over_deviation():
    inputs = SCALE.standardize(np.uint8([[[0, 64], [128, 255]]]))
    np.testing.assert_array_equal(
        inputs, np.float32([[-0.5, 0, 0.5, (255 / 256 - 0.25) / 0.5]])
    )
    assert inputs.dtype == np.float32


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 20), st.just(3), st.just(2))).filter(
        lambda images: images.min() != images.max()
    )
)
def test_mean_and_deviation_are_numpys_and_standardized_pixels_have_0_and_1(images):
    scale = Scale.of(images)
    assert scale.mean == pytest.approx((images / 256).mean(), abs=1e-12)
    assert scale.std == pytest.approx((images / 256).std(), abs=1e-9)
    inputs = scale.standardize(images).astype(np.float64)
    assert inputs.mean() == pytest.approx(0, abs=1e-5)
    assert inputs.std() == pytest.approx(1, abs=1e-5)


@given(arrays(np.uint8, (5, 2, 2)))
def test_standardizing_can_be_undone(images):
    inputs = SCALE.standardize(images).astype(np.float64)
    pixels = (inputs * SCALE.std + SCALE.mean) * SCALE.divisor
    np.testing.assert_array_equal(np.rint(pixels).reshape(images.shape), images)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("valid-images.npy", b"\x93NUMPY", "is not a whole .npy file"),
        ("valid-images.npy", b"", "is not a whole .npy file"),
        ("valid-labels.npy", np.float32([1, 2]), "holds float32 values in 1 dim"),
        ("valid-labels.npy", np.uint8([[1]]), "in 2 dimensions, not uint8 in 1"),
        ("valid-labels.npy", np.uint8([1]), "has 2 valid images but 1 labels"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, name, content, sentence):
    splits.save(tmp_path, {"valid": SOME}, SCALE)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(BadInput, match=sentence):
        splits.load(tmp_path, "valid")


def test_a_pickled_array_is_refused(tmp_path):
    splits.save(tmp_path, {"valid": SOME}, SCALE)
    np.save(tmp_path / "valid-labels.npy", np.array([{}], dtype=object))
    with pytest.raises(BadInput, match="is not a whole .npy file"):
        splits.load(tmp_path, "valid")


@pytest.mark.parametrize("content", ["", "{}", '{"mean": 1}', "[1"])
def test_a_damaged_scale_is_refused(tmp_path, content):
    (tmp_path / "scale.json").write_text(content)
    with pytest.raises(BadInput, match="scale.json is damaged"):
        splits.load_scale(tmp_path)
