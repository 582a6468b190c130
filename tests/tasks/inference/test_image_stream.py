"""Every image that paths name, in order, none of which stops the others."""

import gzip
import os

import numpy as np
import pytest
from conftest import idx_bytes
from handmade import MNIST, lying, upright
from PIL import Image

from tasks.inference import image_stream
from tasks.runtime.params import BadInput


def read(*paths, start) -> list[tuple[str, int, object]]:
    """Path, number, and the reason or the image, of every image."""
    found = []
    for batch in image_stream.stream(
        image_stream.input_files(map(str, paths), start), MNIST
    ):
        for row, (file, number) in enumerate(
            zip(batch.file, batch.number, strict=True)
        ):
            what = batch.reasons.get(row) or batch.images[row].copy()
            found.append((batch.paths[file], int(number), what))
    return found


def test_a_folder_is_read_in_the_order_of_names_whatever_is_in_it(tmp_path):
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
    assert found[3][2] == "it is not an archive of arrays"
    assert image_stream.extent(image_stream.input_files(["some"], tmp_path)) == (4, 2)


def test_links_in_a_circle_come_to_an_end(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(upright()).save(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    (tmp_path / "a" / "lost.png").symlink_to("nowhere")
    assert [name for name, *_ in read(tmp_path, start=tmp_path)] == [
        f"{tmp_path}/a/x.png"
    ]


def test_a_path_that_is_not_there_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(BadInput, match="'nowhere' is not there; name a file or"):
        image_stream.input_files(["nowhere"], tmp_path)


def test_what_is_no_file_is_a_row(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert read("pipe", start=tmp_path) == [("pipe", 0, "it is no file")]


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_of_either_polarity_is_read_whole(tmp_path, packed):
    some = np.stack([upright(), 255 - lying(), np.zeros_like(upright()), lying()])
    save = np.savez_compressed if packed else np.savez
    save(tmp_path / "a.npz", images=some)
    found = read("a.npz", start=tmp_path)
    assert [number for _, number, _ in found] == [0, 1, 2, 3]
    assert (found[0][2] == upright()).all()
    assert (found[1][2] == lying()).all()
    assert found[2][2] == "it is blank"
    assert (found[3][2] == lying()).all()


def test_an_image_with_other_paper_than_black_is_brought_to_the_form(tmp_path):
    grey = np.where(upright() > 0, 20, 180).astype(np.uint8)
    (tmp_path / "a.idx").write_bytes(idx_bytes(grey[None]))
    ((_, _, image),) = read("a.idx", start=tmp_path)
    assert image[0, 0] == 0
    assert image[14, 14] == 255


def test_an_array_of_another_size_goes_image_by_image(tmp_path):
    large = np.stack([upright(), lying()]).repeat(3, axis=1).repeat(3, axis=2)
    (tmp_path / "a.idx").write_bytes(idx_bytes(255 - large))
    (_, _, first), (_, _, second) = read("a.idx", start=tmp_path)
    assert np.count_nonzero((first > 127) != (upright() > 127)) <= 24
    assert np.count_nonzero((second > 127) != (lying() > 127)) <= 24


def test_more_images_than_a_chunk_come_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(image_stream, "CHUNK", 3)
    some = np.stack([upright()] * 8)
    some[:, 14, 13] = np.arange(8) + 100
    np.savez_compressed(tmp_path / "packed.npz", images=some)
    np.save(tmp_path / "plain.npy", some)
    for name in ("packed.npz", "plain.npy"):
        found = read(name, start=tmp_path)
        assert [number for _, number, _ in found] == list(range(8))
        assert [image[14, 13] for *_, image in found] == list(range(100, 108))


def test_what_breaks_off_is_a_row_behind_what_came(tmp_path, monkeypatch):
    content = idx_bytes(np.stack([upright()] * 5))
    (tmp_path / "a.gz").write_bytes(gzip.compress(content[: 16 + 784 * 2 + 5]))
    monkeypatch.setattr(image_stream, "CHUNK", 2)
    found = read("a.gz", start=tmp_path)
    assert found[-1] == ("a.gz", 2, "it breaks off early")


def test_a_name_is_text_for_every_table():
    assert image_stream.shown("=1+1.png") == "./=1+1.png"
    assert image_stream.shown("a/b.png") == "a/b.png"
    assert image_stream.shown(os.fsdecode(b"\xff.png")) == "\\xff.png"
