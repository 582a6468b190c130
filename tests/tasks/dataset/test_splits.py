import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save as to_safetensors
from samples import facts

from tasks.dataset import splits
from tasks.dataset.splits import Scale, Split
from tasks.runtime.params import BadInput

SOME = Split(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.uint8([1, 0]))
PARTS = dict.fromkeys(splits.SPLITS, SOME)
FACTS = facts((3, 4), 2, mean=0.25, std=0.5)
SCALE = FACTS.scale
GOOD = json.dumps(FACTS.model_dump(mode="json"))


def write(folder, arrays, metadata) -> None:
    """A file whose header is valid; its content may not be what `save` writes."""
    content = to_safetensors(arrays, metadata)
    (folder / splits.FILE).write_bytes(content)


def content() -> bytes:
    values = {"valid-images": SOME.images, "valid-labels": SOME.labels}
    return to_safetensors(values, {"facts": GOOD})


def test_load_returns_what_was_saved(tmp_path):
    splits.save(tmp_path, PARTS, FACTS)

    assert splits.load_facts(tmp_path) == FACTS
    for name in splits.SPLITS:
        split = splits.load(tmp_path, name)
        np.testing.assert_array_equal(split.images, SOME.images)
        np.testing.assert_array_equal(split.labels, SOME.labels)


def test_any_safetensors_reader_can_read_the_splits(tmp_path):
    splits.save(tmp_path, PARTS, FACTS)
    from safetensors.numpy import load_file  # noqa: PLC0415  # beside its one use

    arrays = load_file(tmp_path / "splits.safetensors")
    assert sorted(arrays) == sorted(
        f"{name}-{part}" for name in splits.SPLITS for part in ("images", "labels")
    )
    np.testing.assert_array_equal(arrays["valid-images"], SOME.images)


def test_splits_are_replaced_as_a_whole(tmp_path):
    splits.save(tmp_path, PARTS, FACTS)
    link = tmp_path / "link"
    link.hardlink_to(tmp_path / splits.FILE)
    before = link.read_bytes()
    splits.save(tmp_path, {"valid": SOME}, FACTS)
    assert link.read_bytes() == before != (tmp_path / splits.FILE).read_bytes()


def test_same_splits_give_same_bytes(tmp_path):
    written = set()
    for _ in range(2):
        splits.save(tmp_path, PARTS, FACTS)
        written.add((tmp_path / splits.FILE).read_bytes())
    assert len(written) == 1


def test_arrays_are_mapped_and_read_only(tmp_path):
    splits.save(tmp_path, PARTS, FACTS)
    images, labels = splits.load(tmp_path, "train")
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert not labels.flags.writeable


def test_slices_of_larger_arrays_can_be_saved(tmp_path):
    columns = Split(SOME.images[:, :, ::2], SOME.labels[::-1])
    splits.save(tmp_path, {"valid": columns}, FACTS)
    images, labels = splits.load(tmp_path, "valid")
    np.testing.assert_array_equal(images, columns.images)
    np.testing.assert_array_equal(labels, columns.labels)


def test_standardized_pixels_are_pixels_over_256_minus_mean_over_deviation():
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
def test_standardized_training_images_have_mean_0_and_deviation_1(images):
    scale = Scale.of(images, 255)
    assert scale.mean == pytest.approx((images / 256).mean(), abs=1e-12)
    assert scale.std == pytest.approx((images / 256).std(), abs=1e-9)
    inputs = scale.standardize(images).astype(np.float64)
    assert inputs.mean() == pytest.approx(0, abs=1e-5)
    assert inputs.std() == pytest.approx(1, abs=1e-5)


@given(arrays(np.uint8, (5, 2, 2)))
def test_standardizing_is_reversible(images):
    inputs = SCALE.standardize(images).astype(np.float64)
    pixels = (inputs * SCALE.std + SCALE.mean) * SCALE.divisor
    np.testing.assert_array_equal(np.rint(pixels).reshape(images.shape), images)


def test_images_of_a_single_pixel_value_are_refused():
    with pytest.raises(BadInput, match="the same value"):
        Scale.of(np.full((5, 2, 2), 7, np.uint8), 255)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"valid-images": SOME.images[0]}, "valid-images"),
        ({"valid-images": SOME.images[:0]}, "valid-images"),
        ({"valid-images": SOME.images.astype(np.float32)}, "valid-images"),
        ({"valid-images": SOME.images.astype(np.int8)}, "valid-images"),
        ({"valid-images": SOME.images[:1]}, "1 valid images but 2 labels"),
        ({"valid-labels": SOME.labels[:, None]}, "valid-labels"),
        ({"valid-labels": SOME.labels.astype(np.bool_)}, "valid-labels"),
        ({"valid-labels": SOME.labels[:1]}, "2 valid images but 1 labels"),
    ],
)
def test_arrays_of_other_types_or_shapes_are_refused(tmp_path, changed, reason):
    values = {"valid-images": SOME.images, "valid-labels": SOME.labels} | changed
    write(tmp_path, values, {"facts": GOOD})
    with pytest.raises(BadInput, match=f"damaged.*{reason}.*--force normalize"):
        splits.load(tmp_path, "valid")


def test_a_missing_split_is_refused(tmp_path):
    splits.save(tmp_path, {"valid": SOME}, FACTS)
    with pytest.raises(BadInput, match="`test-images`"):
        splits.load(tmp_path, "test")


def test_a_missing_file_is_named(tmp_path):
    for load in (splits.load_facts, lambda folder: splits.load(folder, "valid")):
        with pytest.raises(FileNotFoundError) as error:
            load(tmp_path)
        assert error.value.filename == str(tmp_path / splits.FILE)


def header(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


ENTRY = '{{"valid-images": {{"dtype": "U8", "shape": {}, "data_offsets": {}}}}}'
DAMAGED = {
    "empty": b"",
    "bytes missing": content()[:-1],
    "bytes left over": content() + b"\0",
    "header longer than the file": header("{}")[:8],
    "header of 2^63 bytes": b"\xff" * 7 + b"\x7f{}",
    "shape of 2^128 bytes": header(ENTRY.format([2**63, 2**63, 4], [0, 24])),
    "offsets beyond the end": header(ENTRY.format([2, 3, 4], [0, 24])),
    "negative shape": header(ENTRY.format([-2, -3, 4], [0, 24])) + bytes(24),
    "shape that disagrees": header(ENTRY.format([2, 3, 5], [0, 24])) + bytes(24),
    "no JSON": header("__import__('os').system('touch ran')"),
    "deep JSON": header("[" * 9000),
    "npy file": b"\x93NUMPY\1\0v\0{'descr': '|u1', }",
    "zip archive": b"PK\3\4" + bytes(200),
    "pickle": b"\x80\2cos\nsystem\nX\x09\0\0\0touch ran\x85R.",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / splits.FILE).write_bytes(DAMAGED[name])

    for load in (splits.load_facts, lambda folder: splits.load(folder, "valid")):
        with pytest.raises(BadInput, match="damaged.*--force normalize"):
            load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [splits.FILE]


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / splits.FILE)
    with pytest.raises(BadInput, match="not a regular file"):
        splits.load(tmp_path, "valid")


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
    ],
)
def test_damaged_facts_are_refused(tmp_path, old, new):
    assert GOOD.count(old) == 1
    write(tmp_path, {}, {"facts": GOOD.replace(old, new)})
    with pytest.raises(BadInput, match="damaged.*metadata"):
        splits.load_facts(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"other": GOOD}])
def test_missing_facts_are_refused(tmp_path, metadata):
    write(tmp_path, {"a": SOME.labels}, metadata)
    with pytest.raises(BadInput, match="damaged.*metadata"):
        splits.load_facts(tmp_path)
