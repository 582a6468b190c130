"""Arrays of images are read in order, and invalid ones are refused."""

import io
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import compress, idx_bytes

from tasks.imaging.segmentation import UnusableImage
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
        compress(idx_bytes(IMAGES)),
        npy(IMAGES),
        npz(images=IMAGES, labels=IMAGES[:, 0, 0]),
        npz(np.savez_compressed, x_test=IMAGES, x_train=IMAGES[:1]),
        npz(a=IMAGES.astype(float), labels=IMAGES[:, 0, 0], b=IMAGES),
    ],
)
def test_images_are_read_from_every_format(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    assert array_files.holds_array(path)
    assert (content_of(path) == IMAGES).all()


def misplaced_directory() -> bytes:
    """Return an archive whose directory is announced beyond its end."""
    content = bytearray(npz(images=IMAGES))
    content[-5] = 1  # the third of four bytes
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (idx_bytes(IMAGES)[:-1], "declares 60 bytes of values but has 59"),
        (idx_bytes(IMAGES) + b"x", "declares 60 bytes of values but has 61"),
        (idx_bytes(IMAGES[:, 0, 0]), r"it holds no images, .*, but shape \(3,\)"),
        (bytes([0, 0, 8, 3]) + bytes(12), "it declares 0 bytes of values"),
        (bytes([0, 0, 8, 3]), "it ends within its header"),
        (
            compress(bytes([0, 0, 8, 3]) + b"\0\0\0\1" + b"\0\0\x27\x10" * 2),
            "it has images that are too large",
        ),
        (
            compress(bytes([0, 0, 8, 3, 255, 255, 255, 255, 0, 0, 4, 0, 0, 0, 4, 0])),
            "it is too large; unpack it",
        ),
        (b"\x1f\x8bnonsense", "it is damaged or incomplete"),
        (npy(IMAGES.astype(float)), "it holds no images of uint8"),
        (npy(np.array([None, {}])), "it holds Python objects, which are never loaded"),
        (npy(IMAGES)[:-1], "declares 60 bytes of values but has 59"),
        (npz(a=IMAGES.astype(float)), "it holds no images of uint8"),
        (b"PK\3\4", "it is not an archive of arrays"),
        (npz(images=IMAGES)[:-30], "it is not an archive of arrays"),
        (misplaced_directory(), "it is damaged or incomplete"),
    ],
)
def test_a_header_that_does_not_match_the_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(UnusableImage, match=reason):
        content_of(path)


def test_a_compression_that_numpy_never_uses_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", npy(IMAGES))
    with pytest.raises(UnusableImage, match="compressed by a method"):
        content_of(path)


def test_an_archive_with_a_huge_directory_is_refused_unread(tmp_path):
    content = bytearray(npz(images=IMAGES))
    content[-10:-6] = (1_000_001).to_bytes(4, "little")
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(UnusableImage, match="not an archive of arrays"):
        content_of(path)


@given(
    st.sampled_from(
        [
            idx_bytes(IMAGES),
            compress(idx_bytes(IMAGES)),
            npy(IMAGES),
            npz(images=IMAGES),
            npz(np.savez_compressed, images=IMAGES),
        ]
    ),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    st.integers(0, 60),
)
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_damaged_array_is_read_or_refused(tmp_path, content, changes, cut):
    damaged = bytearray(content)
    for share, value in changes:
        damaged[int(share * (len(damaged) - 1))] = value
    path = tmp_path / "a"
    path.write_bytes(damaged[: len(damaged) - cut])
    with suppress(UnusableImage), array_files.opened(path) as images:
        few = min(images.shape[0], 3)
        buffer = np.empty((few, *images.shape[1:]), np.uint8)
        array_files.fill(images.stream, buffer)
