"""Every image of some paths is read in order; invalid ones do not stop the others."""

import gzip
import os

import numpy as np
import pytest
from handmade import MNIST, WHOLE, lying, upright
from PIL import Image
from samples import idx_bytes

from tasks.inference import image_stream
from tasks.runtime.params import BadInput


def read(*paths, start) -> list[tuple[str, int, object]]:
    """Return path, number, and the reason or the pixels of every image."""
    inputs = image_stream.input_files(map(str, paths), start)
    return [
        (batch.path, batch.first + row, batch.reasons.get(row, image.copy()))
        for batch in image_stream.stream(inputs, MNIST)
        for row, image in enumerate(batch.images)
    ]


def test_folders_are_read_in_the_order_of_names(tmp_path):
    folder = tmp_path / "some"
    (folder / "b").mkdir(parents=True)
    Image.fromarray(upright()).save(folder / "c.png")
    Image.fromarray(lying()).save(folder / "b" / "z.PNG")
    (folder / "a.jpg").write_bytes(b"no")
    (folder / ".hidden.png").write_bytes(b"no")
    (folder / "read.me").write_bytes(b"no")
    (folder / "d.npz").write_bytes(b"PK\3\4")
    found = read("some", start=tmp_path)
    assert [name for name, *_ in found] == [
        "some/a.jpg",
        "some/b/z.PNG",
        "some/c.png",
        "some/d.npz",
    ]
    assert found[0][2] == "it is not a PNG, JPEG or TIFF image"
    assert (found[1][2] == lying()).all()
    assert (found[2][2] == upright()).all()
    assert "archive of arrays" in found[3][2]
    inputs = image_stream.input_files(["some"], tmp_path)
    assert (image_stream.count_images(inputs), inputs.ignored) == (4, 2)


def test_circular_links_are_followed_once(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(upright()).save(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "a" / "lost.png").symlink_to("nowhere")
    assert [name for name, *_ in read(tmp_path, start=tmp_path)] == [
        f"{tmp_path}/a/x.png"
    ]


def test_pages_of_an_image_are_numbered(tmp_path):
    pages = [Image.fromarray(image) for image in (upright(), lying(), upright())]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    found = read("a.tiff", start=tmp_path)
    assert [number for _, number, _ in found] == [0, 1, 2]
    assert (found[1][2] == lying()).all()


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(BadInput, match="'nowhere' does not exist"):
        image_stream.input_files(["nowhere"], tmp_path)


def test_a_pipe_is_reported_and_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert image_stream.count_images(image_stream.input_files(["pipe"], tmp_path)) == 1
    ((name, number, reason),) = read("pipe", start=tmp_path)
    assert (name, number, reason) == ("pipe", 0, "it is not a regular file")


@pytest.mark.parametrize("packed", [False, True])
def test_arrays_of_either_polarity_are_read(tmp_path, packed):
    some = np.stack([upright(), 255 - lying(), np.zeros_like(upright()), lying()])
    save = np.savez_compressed if packed else np.savez
    save(tmp_path / "a.npz", images=some)
    found = read("a.npz", start=tmp_path)
    assert [number for _, number, _ in found] == [0, 1, 2, 3]
    assert (found[0][2] == upright()).all()
    assert (found[1][2] == lying()).all()
    assert found[2][2] == "it is blank"
    assert (found[3][2] == lying()).all()


def test_array_images_on_grey_are_preprocessed(tmp_path):
    grey = np.where(upright() > 0, 20, 180).astype(np.uint8)
    (tmp_path / "a.idx").write_bytes(idx_bytes(grey[None]))
    ((_, _, image),) = read("a.idx", start=tmp_path)
    assert image[0, 0] == 0
    assert image[14, 14] == 255


def test_array_images_brighter_than_the_training_set_are_scaled(tmp_path):
    images = np.zeros((2, 8, 8), np.uint8)
    images[:, 2:6, 3:5] = [[[16]], [[255]]]
    np.save(tmp_path / "a.npy", images)
    inputs = image_stream.input_files(["a.npy"], tmp_path)
    (batch,) = image_stream.stream(inputs, WHOLE)
    assert batch.images.max(axis=(1, 2)).tolist() == [16, 16]


def test_array_images_of_another_size_are_preprocessed(tmp_path):
    large = np.stack([upright(), lying()]).repeat(3, axis=1).repeat(3, axis=2)
    (tmp_path / "a.idx").write_bytes(idx_bytes(255 - large))
    (_, _, first), (_, _, second) = read("a.idx", start=tmp_path)
    assert np.count_nonzero((first > 127) != (upright() > 127)) <= 24
    assert np.count_nonzero((second > 127) != (lying() > 127)) <= 24


def test_arrays_larger_than_a_batch_are_read_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(image_stream, "BATCH_PIXELS", 3 * 784)
    some = np.stack([upright()] * 8)
    some[:, 14, 13] = np.arange(8) + 100
    np.savez_compressed(tmp_path / "packed.npz", images=some)
    np.save(tmp_path / "plain.npy", some)
    for name in ("packed.npz", "plain.npy"):
        found = read(name, start=tmp_path)
        assert [number for _, number, _ in found] == list(range(8))
        assert [image[14, 13] for *_, image in found] == list(range(100, 108))


@pytest.mark.parametrize("batch", [2, 2048])
def test_a_truncated_array_gives_its_whole_images_and_a_reason(
    tmp_path, monkeypatch, batch
):
    content = idx_bytes(np.stack([upright()] * 5))
    (tmp_path / "a.gz").write_bytes(gzip.compress(content[: 16 + 784 * 2 + 5]))
    monkeypatch.setattr(image_stream, "BATCH_PIXELS", batch * 784)
    found = read("a.gz", start=tmp_path)
    assert [number for _, number, _ in found] == list(range(len(found)))
    assert isinstance(found[-1][2], str)


def test_displayed_paths_are_safe_in_tables():
    assert image_stream.display_path("=1+1.png") == "./=1+1.png"
    assert image_stream.display_path("a/b.png") == "a/b.png"
    assert image_stream.display_path(os.fsdecode(b"\xff.png")) == "\\xff.png"
