import json

import numpy as np
import pytest
from conftest import facts
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.dataset import splits
from tasks.dataset.splits import Scale, Split
from tasks.runtime.params import BadInput

SOME = Split(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.uint8([1, 0]))
FACTS = facts((3, 4), 2, mean=0.25, std=0.5)
SCALE = FACTS.scale


def test_what_is_saved_is_loaded(tmp_path):
    splits.save(tmp_path, {"train": SOME, "valid": SOME, "test": SOME}, FACTS)
    assert splits.load_facts(tmp_path) == FACTS
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
    scale = Scale.of(images, 255)
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
        ("valid-labels.npy", np.float32([1, 2]), "npy file of bytes in 1 dimensions"),
        ("valid-labels.npy", np.uint8([[1]]), "npy file of bytes in 1 dimensions"),
        ("valid-labels.npy", np.uint8([]), "npy file of bytes in 1 dimensions"),
        ("valid-labels.npy", np.bool_([1, 0]), "npy file of bytes in 1 dimensions"),
        ("valid-labels.npy", np.zeros(2, "V1"), "npy file of bytes in 1 dimensions"),
        ("valid-labels.npy", np.uint8([1]), "has 2 valid images but 1 labels"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, name, content, sentence):
    splits.save(tmp_path, {"valid": SOME}, FACTS)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(BadInput, match=sentence):
        splits.load(tmp_path, "valid")


def test_a_pickled_array_is_refused(tmp_path):
    splits.save(tmp_path, {"valid": SOME}, FACTS)
    np.save(tmp_path / "valid-labels.npy", np.array([{}], dtype=object))
    with pytest.raises(BadInput, match="is not a whole .npy file"):
        splits.load(tmp_path, "valid")


def header(text: str, version: bytes = b"\1\0") -> bytes:
    """What stands before the values of a .npy file, by the format's description."""
    padded = text.ljust(117) + "\n"
    return b"\x93NUMPY" + version + len(padded).to_bytes(2, "little") + padded.encode()


WORDS = "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format
BYTES = "'|u1'"


def test_a_header_written_by_hand_is_read_as_its_description_says(tmp_path):
    splits.save(tmp_path, {"valid": SOME}, FACTS)
    content = header(WORDS(BYTES, "False", (2, 3, 4))) + bytes(range(24))
    (tmp_path / "valid-images.npy").write_bytes(content)

    np.testing.assert_array_equal(splits.load(tmp_path, "valid").images, SOME.images)


LIES = {
    "a shape of 2^64": header(WORDS(BYTES, "False", (2**32, 2**32, 1))),
    "a shape of 10^30": header(WORDS(BYTES, "False", (10**10, 10**10, 10**10))),
    "a negative shape": header(WORDS(BYTES, "False", (-2, -3, 4))) + bytes(24),
    "a shape of zero": header(WORDS(BYTES, "False", (0, 3, 4))),
    "a shape of a million axes": header(WORDS(BYTES, "False", "(" + "1," * 99 + ")"))[
        :128
    ],
    "bytes missing": header(WORDS(BYTES, "False", (2, 3, 4))) + bytes(23),
    "bytes left over": header(WORDS(BYTES, "False", (2, 3, 4))) + bytes(25),
    "columns first": header(WORDS(BYTES, "True", (2, 3, 4))) + bytes(24),
    "objects": header(WORDS("'|O'", "False", (2, 3, 4))) + bytes(192),
    "fields": header(WORDS("[('a', '|u1')]", "False", (2, 3, 4))) + bytes(24),
    "a program": header("__import__('os').system('touch ran')"),
    "parentheses": header("(" * 110),
    "half a text": header('{"descr: '),
    "another version": header(WORDS(BYTES, "False", (2, 3, 4)), b"\3\0") + bytes(24),
    "a header without end": b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 1000,
    "an archive": b"PK\3\4" + bytes(200),
    "a pickle": b"\x80\2cos\nsystem\nX\x09\0\0\0touch ran\x85R.",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused_in_a_sentence(tmp_path, monkeypatch, lie):
    monkeypatch.chdir(tmp_path)
    splits.save(tmp_path, {"valid": SOME}, FACTS)
    (tmp_path / "valid-images.npy").write_bytes(LIES[lie])
    there = sorted(tmp_path.iterdir())

    with pytest.raises(BadInput, match="is not a whole .npy file of bytes in 3 dim"):
        splits.load(tmp_path, "valid")
    assert sorted(tmp_path.iterdir()) == there


def test_images_that_are_all_alike_have_no_scale():
    with pytest.raises(BadInput, match="All pixels of the training images are alike"):
        Scale.of(np.full((5, 2, 2), 7, np.uint8), 255)


GOOD = json.dumps(FACTS.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *((GOOD, text) for text in ("", "{}", '{"mean": 1}', "[1", "[" * 900, "null")),
        ('"mean": 0.25', '"mean": NaN'),
        ('"std": 0.5', '"std": Infinity'),
        ('"std": 0.5', '"std": 0'),
        ('"std": 0.5', '"std": 1e-300'),
        ('"mean": 0.25', '"mean": "0.25"'),
        ('"divisor": 256', '"divisor": 257'),
        ('"divisor": 256', '"divisor": 256, "more": 1'),
        ('["0", "1"]', '["0"]'),
        ('["0", "1"]', '["0", "0"]'),
        ('["0", "1"]', '["0", "<b>"]'),
        ("[3, 4]", "[3, 0]"),
        ("[3, 4]", "[3]"),
        ('"box": null', '"box": 4'),
        ('"brightest": 255', '"brightest": 256'),
        ('"made up"', '"made | up"'),
        (GOOD, GOOD + " " * 100_000),
    ],
)
def test_damaged_facts_are_refused(tmp_path, old, new):
    assert GOOD.count(old) == 1
    (tmp_path / "facts.json").write_text(GOOD.replace(old, new))
    with pytest.raises(BadInput, match=r"facts\.json is damaged"):
        splits.load_facts(tmp_path)


def test_facts_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "facts.json").write_text("\ud800", errors="surrogatepass")
    with pytest.raises(BadInput, match=r"facts\.json is damaged"):
        splits.load_facts(tmp_path)
