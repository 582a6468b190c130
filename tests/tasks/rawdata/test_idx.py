import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tasks.rawdata import idx
from tasks.runtime.params import BadInput

SMALL = b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes([0, 1, 2, 3, 4, 255])


def test_a_file_is_read_as_the_format_specifies(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(SMALL)

    values = idx.read(path)

    assert values.dtype == np.uint8
    assert values.tolist() == [[0, 1, 2], [3, 4, 255]]
    assert idx.parse(SMALL, "small").tolist() == values.tolist()
    assert idx.to_bytes(values) == SMALL


@pytest.mark.parametrize("name", idx.FILES)
def test_files_are_read_and_written_byte_for_byte(raw, digits, name):
    values = idx.read(raw / name)

    np.testing.assert_array_equal(values, digits[name], strict=True)
    assert idx.to_bytes(values) == (raw / name).read_bytes()


def test_values_are_read_only(raw):
    values = idx.read(raw / "train-images-idx3-ubyte")

    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not an IDX file .*: it begins with b''"),
        (b"\x1f\x8b\x08\x00" + SMALL, "is not an IDX file"),
        (b"<!DOCTYPE html>", "is not an IDX file .*: it begins with b'<!DO'"),
        (b"\0\0\x0d" + SMALL[3:], "is not an IDX file of unsigned bytes"),
        (b"\0\0\x08\0\0", "is not an IDX file .* in one to three axes"),
        (b"\0\0\x08\x04" + SMALL[4:], "is not an IDX file .* in one to three axes"),
        (SMALL[:10], "ends within its header"),
        (SMALL[:-1], "declares 6 bytes of values but has 5"),
        (SMALL + b"\0", "declares 6 bytes of values but has 7"),
        (b"\0\0\x08\x01\0\0\0\0", "declares 0 bytes of values but has 0"),
    ],
)
def test_an_invalid_file_is_refused_with_its_path_and_reason(
    tmp_path, content, sentence
):
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)

    with pytest.raises(BadInput, match=f"{path} {sentence}.*; delete it"):
        idx.read(path)
    with pytest.raises(BadInput, match=f"the mirror's {sentence}"):
        idx.parse(content, "the mirror's")


# 2^32 * 2^32 wraps around to 0, and 0 bytes follow.
@pytest.mark.parametrize(
    "sizes", [(2**32 - 1,) * 3, (2**31, 2**31, 4), (60000, 28, 28)]
)
def test_a_header_allocates_nothing_of_the_size_it_declares(tmp_path, sizes):
    path = tmp_path / "huge"
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *sizes))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="bytes of values but has 0"):
            idx.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_large_file_is_not_loaded_into_memory(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 500_000, 28, 28))
    os.truncate(path, 16 + 500_000 * 28 * 28)  # sparse: 392 MB, none of it on the disk
    tracemalloc.start()
    try:
        assert idx.read(path)[-1].sum() == 0
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 2), np.float32),
        np.zeros((), np.uint8),
        np.zeros((2, 2, 2, 2), np.uint8),
        np.zeros((0, 28, 28), np.uint8),
    ],
)
def test_arrays_that_could_not_be_read_are_not_written(values):
    with pytest.raises(ValueError, match="unsigned bytes in one to three axes"):
        idx.to_bytes(values)


@given(
    arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=3, max_side=9)),
    st.booleans(),
)
def test_a_written_file_is_read_back_unchanged(values, transposed):
    values = values.T if transposed else values
    again = idx.parse(idx.to_bytes(values), "round trip")
    np.testing.assert_array_equal(again, values, strict=True)


@given(st.binary(max_size=64) | st.binary(max_size=64).map(b"\0\0\x08".__add__))
@example(SMALL)
def test_any_bytes_are_read_or_refused(content):
    try:
        values = idx.parse(content, "noise")
    except BadInput as refused:
        assert str(refused).startswith("noise ")  # noqa: PT017  or it is read
    else:
        assert idx.to_bytes(values) == content
