"""Arrays of images: what is in them, and what is not believed."""

import gzip
import io
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from conftest import idx_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.imaging.segmentation import Unusable
from tasks.inference import array_files

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def npz(save=np.savez, **members) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **members)
    return buffer.getvalue()


def content_of(path) -> np.ndarray:
    with array_files.opened(path) as images:
        buffer = np.empty(images.shape, np.uint8)
        assert array_files.fill(images.stream, buffer) == len(buffer)
        return buffer


@pytest.mark.parametrize(
    "content",
    [
        idx_bytes(IMAGES),
        gzip.compress(idx_bytes(IMAGES)),
        npy(IMAGES),
        npz(images=IMAGES, labels=IMAGES[:, 0, 0]),
        npz(np.savez_compressed, x_test=IMAGES, x_train=IMAGES[:1]),
        npz(a=IMAGES.astype(float), labels=IMAGES[:, 0, 0], b=IMAGES),
    ],
)
def test_every_kind_of_file_gives_its_images(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    assert array_files.holds_array(path)
    assert (content_of(path) == IMAGES).all()


def out_of_place() -> bytes:
    """An archive that says its directory begins behind the file."""
    content = bytearray(npz(images=IMAGES))
    content[-5] = 1  # the third of four bytes
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (idx_bytes(IMAGES)[:-1], "makes 60 bytes, and 59 follow"),
        (idx_bytes(IMAGES) + b"x", "makes 60 bytes, and 61 follow"),
        (idx_bytes(IMAGES[:, 0, 0]), "it holds no images: 1 axes"),
        (bytes([0, 0, 8, 3]) + bytes(12), "it announces no images"),
        (bytes([0, 0, 8, 3]), "it breaks off within its header"),
        (
            gzip.compress(bytes([0, 0, 8, 3]) + b"\0\0\0\1" + b"\xff" * 8),
            "its images are too large",
        ),
        (
            gzip.compress(
                bytes([0, 0, 8, 3, 255, 255, 255, 255, 0, 0, 4, 0, 0, 0, 4, 0])
            ),
            "it is too large; unpack it",
        ),
        (b"\x1f\x8bnonsense", "it is damaged or breaks off early"),
        (npy(IMAGES.astype(float)), "it holds no images as bytes"),
        (npy(np.array([None, {}])), "it holds no images as bytes"),
        (npy(IMAGES)[:-1], "makes 60 bytes, and 59 follow"),
        (npz(a=IMAGES.astype(float)), "it holds no images as bytes"),
        (b"PK\3\4", "it is no archive of arrays that can be read"),
        (npz(images=IMAGES)[:-30], "it is no archive of arrays that can be read"),
        (out_of_place(), "it is no archive of arrays that can be read"),
    ],
)
def test_what_a_header_announces_is_held_against_the_file(tmp_path, content, reason):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(Unusable, match=reason):
        content_of(path)


def test_an_archive_with_an_endless_directory_is_refused_unread(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(15_000):
            archive.writestr(f"{number:060}", b"")
    with pytest.raises(Unusable, match="no archive of arrays"):
        content_of(path)


@given(
    st.sampled_from(
        [
            idx_bytes(IMAGES),
            gzip.compress(idx_bytes(IMAGES)),
            npy(IMAGES),
            npz(images=IMAGES),
            npz(np.savez_compressed, images=IMAGES),
        ]
    ),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    st.integers(0, 60),
)
@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_a_file_holds_is_read_or_refused(tmp_path, content, changes, cut):
    damaged = bytearray(content)
    for share, value in changes:
        damaged[int(share * (len(damaged) - 1))] = value
    path = tmp_path / "a"
    path.write_bytes(damaged[: len(damaged) - cut])
    with suppress(Unusable), array_files.opened(path) as images:
        few = min(images.shape[0], 3)
        buffer = np.empty((few, *images.shape[1:]), np.uint8)
        array_files.fill(images.stream, buffer)
