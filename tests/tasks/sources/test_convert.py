"""Data in any supported format is converted to the same four IDX files."""

import gzip
import hashlib
import io
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from box import in_a_box
from PIL import Image
from samples import ROOT, idx_bytes

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.download import Download, download
from tasks.rawdata.dataset_card import FOLDER
from tasks.rawdata.idx import FILES
from tasks.runtime import params
from tasks.runtime.params import BadInput
from tasks.sources import convert
from tasks.sources.convert import Conversion

SPEC_OF_IMAGES = ImageSpec(shape=(3, 4), brightest=255, box=None)
SPEC = DatasetSpec(title="marks", form=SPEC_OF_IMAGES, classes=("cross", "line"))
SHADES = np.arange(5, 255, 25, dtype=np.uint8)
# Ten images of 3x4 with two pixels each.
IMAGES = np.zeros((10, 3, 4), np.uint8)
IMAGES[:, 0, 0], IMAGES[:, 1, 1] = SHADES, 255
LABELS = np.array([0, 1] * 5)
WORDS = np.array(["cross", "line"] * 5)
HOLD_OUT = Conversion(test=4)


def saved(path, **arrays):
    np.savez_compressed(path, **arrays)
    return str(path)


def class_folders(folder, images=IMAGES, words=WORDS):
    for row, (image, word) in enumerate(zip(images, words, strict=True)):
        (folder / word).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / word / f"{row:02}.png")
    return str(folder)


def idx_folder(folder, *, zipped=False):
    folder.mkdir()
    arrays = (IMAGES[:6], LABELS[:6], IMAGES[6:], LABELS[6:])
    for name, values in zip(FILES, arrays, strict=True):
        content = idx_bytes(values)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return str(folder)


WANTED = dict(
    zip(
        FILES,
        map(idx_bytes, (IMAGES[:6], LABELS[:6], IMAGES[6:], LABELS[6:])),
        strict=True,
    )
)


def hashes(contents):
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def made(source, conversion=HOLD_OUT, spec=SPEC):
    """Return the four files that a source is converted to, and the notes."""
    splits, notes = convert.read(source, conversion.arrays, spec.form)
    splits, dropped = convert.distinct(splits)
    return convert.files(
        *convert.split(splits, conversion, spec.classes)
    ), notes + dropped


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_unchanged(tmp_path, zipped):
    source = idx_folder(tmp_path / "idx", zipped=zipped)

    assert made(source, Conversion()) == (WANTED, [])


WITH_TEST = {
    "x_train": IMAGES[:6],
    "y_train": LABELS[:6],
    "x_test": IMAGES[6:],
    "y_test": LABELS[6:],
}


@pytest.mark.parametrize(
    ("arrays", "conversion"),
    [
        ({"images": IMAGES, "labels": LABELS}, HOLD_OUT),
        ({"X": IMAGES, "y": LABELS[:, None]}, HOLD_OUT),
        ({"data": IMAGES[..., None], "target": WORDS}, HOLD_OUT),
        ({"data": IMAGES.astype(">i4"), "target": WORDS.astype(">U5")}, HOLD_OUT),
        (
            {"images": np.asfortranarray(IMAGES), "labels": LABELS.astype("u1")},
            HOLD_OUT,
        ),
        ({"images": IMAGES / 255, "labels": LABELS}, HOLD_OUT),
        ({"images": (IMAGES / 255).astype("f2"), "labels": LABELS}, HOLD_OUT),
        ({"images": IMAGES.astype(float), "labels": LABELS}, HOLD_OUT),
        ({"images": np.stack([IMAGES] * 3, axis=-1), "labels": LABELS}, HOLD_OUT),
        (WITH_TEST, Conversion()),
        (
            {
                "train_images": IMAGES[:4],
                "train_labels": LABELS[:4],
                "val_images": IMAGES[4:6],
                "val_labels": LABELS[4:6],
                "test_images": IMAGES[6:],
                "test_labels": LABELS[6:],
            },
            Conversion(),
        ),
        (
            {"pictures": IMAGES, "kinds": LABELS + 7},
            Conversion(test=4, labels=(7, 8), arrays={"train": ("pictures", "kinds")}),
        ),
    ],
)
def test_arrays_of_any_usual_format_give_the_same_files(tmp_path, arrays, conversion):
    source = saved(tmp_path / "marks.npz", **arrays)

    assert made(source, conversion)[0] == WANTED


def test_rows_of_booleans_become_square_images(tmp_path):
    rows = np.eye(9, dtype=bool)[:8]
    source = saved(tmp_path / "rows.npz", X=rows, y=LABELS[:8])

    contents, notes = made(source, Conversion(test=3))

    assert contents[FILES[0]] == idx_bytes(rows[:5].reshape(5, 3, 3))
    assert notes == ["rows of 9 pixels became images of 3 x 3"]


def test_colors_become_grayscale_as_in_pillow(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 3), np.uint8)
    source = saved(tmp_path / "colors.npz", X=colors, y=LABELS)

    contents, notes = made(source)

    grayscale = np.stack(
        [np.asarray(Image.fromarray(each).convert("L")) for each in colors]
    )
    assert contents[FILES[0]] == idx_bytes(grayscale[:6])
    assert notes == ["colors became grayscale (ITU-R 601)"]


def test_class_named_folders_are_read_in_the_order_of_their_names(tmp_path):
    source = class_folders(tmp_path / "album")
    (tmp_path / "album" / "cross" / "notes.txt").touch()
    (tmp_path / "album" / ".hidden").mkdir()
    by_class = np.argsort(LABELS, kind="stable")

    contents, _ = made(source)

    assert contents[FILES[0]] == idx_bytes(IMAGES[by_class][:6])
    assert contents[FILES[1]] == idx_bytes(LABELS[by_class][:6])


def test_folders_named_after_splits_may_hold_those_of_the_classes(tmp_path):
    for split, rows in (("train", [0, 1, 2]), ("val", [4, 5]), ("Test", [7, 8])):
        class_folders(tmp_path / "album" / split, IMAGES[rows], WORDS[rows])

    contents, _ = made(str(tmp_path / "album"), Conversion())

    assert contents[FILES[0]] == idx_bytes(IMAGES[[0, 2, 1, 4, 5]])
    assert contents[FILES[3]] == idx_bytes(LABELS[[8, 7]])


def test_images_of_another_size_are_scaled(tmp_path):
    large = IMAGES.repeat(10, axis=1).repeat(10, axis=2)

    contents, _ = made(class_folders(tmp_path / "album", large))

    assert contents[FILES[0]][:16] == WANTED[FILES[0]][:16]
    assert contents[FILES[0]] != WANTED[FILES[0]]


def test_the_digits_of_scikit_learn_match_their_dataset_card():
    card = ROOT / FOLDER / "digits.yaml"
    section = params.load("download", Download, card)
    spec = params.load("images", DatasetSpec, card)

    contents, notes = convert.to_idx_files(
        "sklearn:digits", section.bundle, spec, section.sha256
    )

    assert notes == ""
    assert len(contents[FILES[1]]) - 8 == 1500


def test_images_are_shuffled_by_the_seed_and_the_last_are_for_the_test(
    tmp_path,
):
    source = class_folders(tmp_path / "album")
    conversion = Conversion(test=4, seed=0)

    contents, _ = made(source, conversion)

    assert contents == made(source, conversion)[0]
    by_class = np.argsort(LABELS, kind="stable")
    order = np.random.default_rng(0).permutation(10)
    assert contents[FILES[3]] == idx_bytes(LABELS[by_class][order[6:]])


def test_a_repeated_image_stays_in_the_test_set_only(tmp_path):
    blank = np.zeros((1, 3, 4), np.uint8)
    source = saved(
        tmp_path / "marks.npz",
        x_train=np.concatenate([IMAGES[:6], IMAGES[:2], IMAGES[6:8], blank]),
        y_train=np.concatenate([LABELS[:6], LABELS[:2], LABELS[6:8], [0]]),
        x_test=IMAGES[6:],
        y_test=LABELS[6:],
    )

    assert made(source, Conversion()) == (
        WANTED,
        [
            "1 blank images were dropped",
            "4 images that repeat others were dropped",
        ],
    )


def test_equal_images_of_two_classes_are_refused_and_named(tmp_path):
    source = class_folders(tmp_path / "album")
    Image.fromarray(IMAGES[0]).save(tmp_path / "album" / "line" / "again.png")

    with pytest.raises(
        BadInput,
        match=r"1 images have two labels.*'cross' in .*00.png and 'line' .*again",
    ):
        made(source)


@pytest.fixture
def section():
    return {"timeout": 1, "sha256": hashes(WANTED), "bundle": {"test": 4}}


def test_download_converts_a_bundle(tmp_path, section, capsys):
    source = saved(tmp_path / "marks.npz", X=IMAGES / 255, y=WORDS)
    target = tmp_path / "raw"

    assert download(Download(**section, sources=[source]), target, SPEC) == source

    assert {path.name: path.read_bytes() for path in target.iterdir()} == WANTED
    assert "marks.npz: pixels of 0 to 1 were scaled" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["value", "more", "form"])
def test_converted_data_that_changed_is_refused_with_advice(tmp_path, section, change):
    folder, spec = tmp_path / "album", SPEC
    source = class_folders(folder)
    section["sha256"] = hashes(made(source)[0])
    settled = Download(**section, sources=[source])
    download(settled, tmp_path / "raw", spec)
    other = np.full((3, 4), 9, np.uint8)
    other[0, 0] = 0
    match change:
        case "value":
            Image.fromarray(other).save(folder / "cross" / "00.png")
        case "more":
            Image.fromarray(other).save(folder / "cross" / "10.png")
        case "form":
            form = ImageSpec(shape=(5, 5), brightest=255, box=None)
            spec = DatasetSpec(title="marks", form=form, classes=SPEC.classes)

    with pytest.raises(
        BadInput,
        match="album does not match the hashes.*flows.new_dataset FOLDER --force",
    ):
        download(settled, tmp_path / "raw2", spec)
    assert not (tmp_path / "raw2").exists()


def test_files_that_changed_are_refused_with_advice(tmp_path, section):
    source = idx_folder(tmp_path / "idx")
    (tmp_path / "idx" / FILES[3]).write_bytes(idx_bytes(LABELS[:4] + 1))
    settled = Download(**section | {"bundle": None}, sources=[source])

    with pytest.raises(
        BadInput,
        match=f"{FILES[3]} is another file.*`python -m flows.new_dataset FOLDER --fo",
    ):
        download(settled, tmp_path / "raw", SPEC)


def test_a_dataset_card_may_allow_larger_files(tmp_path, section, monkeypatch):
    monkeypatch.setattr(convert.fetch, "MAX_BYTES", 80)
    source = idx_folder(tmp_path / "idx", zipped=True)
    section |= {"bundle": None, "sources": [source]}

    with pytest.raises(BadInput, match="unpacks to more than 80 bytes"):
        download(Download(**section), tmp_path / "raw")
    download(Download(**section, max_bytes=100), tmp_path / "raw")


@pytest.mark.parametrize(
    ("conversion", "sentence"),
    [
        (Conversion(), "no test images; set `download.bundle.test`"),
        (Conversion(test=10), "set `download.bundle.test` .* of its 10 images"),
        (Conversion(test=4, labels=("cross", "dot")), "label 'line', which is not in"),
        (Conversion(test=4, arrays={"train": ("X", "z")}), "npz has no array z"),
        (Conversion(test=4, arrays={"test": ("X", "y")}), "has no `train`"),
    ],
)
def test_a_conversion_that_does_not_fit_is_refused(tmp_path, conversion, sentence):
    source = saved(tmp_path / "marks.npz", X=IMAGES, y=WORDS)

    with pytest.raises(BadInput, match=sentence):
        made(source, conversion)


def test_images_are_not_held_out_from_data_with_test_images(tmp_path):
    source = saved(tmp_path / "marks.npz", **WITH_TEST)

    with pytest.raises(BadInput, match=r"has test images; remove `download.bundle.te"):
        made(source, HOLD_OUT)


def test_a_test_set_without_images_is_refused(tmp_path):
    arrays = WITH_TEST | {"x_test": np.zeros((4, 3, 4), np.uint8)}
    source = saved(tmp_path / "marks.npz", **arrays)

    with pytest.raises(BadInput, match="no images for training or for the test"):
        made(source, Conversion())


OBJECTS = np.array([None] * 10)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": IMAGES}, "holds images; only these names are recognized"),
        ({"X": IMAGES, "y": OBJECTS}, "y of .* holds Python objects, .*never loaded"),
        ({"X": OBJECTS, "y": LABELS}, "X of .* holds Python objects"),
        (
            {"X": IMAGES, "y": LABELS[:9]},
            r"labels .* shape \(9,\), not .* for each of 10",
        ),
        ({"X": IMAGES, "y": LABELS / 2}, "labels of .* are float64 of shape"),
        ({"X": IMAGES, "y": np.eye(10, dtype=int)}, "labels .* int64 of shape"),
        ({"X": IMAGES.astype(complex), "y": LABELS}, "neither numbers nor text"),
        ({"X": WORDS, "y": LABELS}, "has no images of numbers, but <U5"),
        ({"X": IMAGES - 1.0, "y": LABELS}, "pixels of -1 to 254; only whole"),
        ({"X": IMAGES.astype(int) * 2, "y": LABELS}, "pixels of 0 to 510"),
        ({"X": IMAGES / 2, "y": LABELS}, "pixels of 0 to 127.5; only whole"),
        ({"X": IMAGES * np.nan, "y": LABELS}, "pixels of nan to nan; only whole"),
        ({"X": IMAGES[:0], "y": LABELS}, "declares 0 bytes of values but has 0"),
        ({"X": IMAGES.reshape(10, 12), "y": LABELS}, r"of shape \(10, 12\)"),
        ({"X": np.stack([IMAGES] * 4, -1), "y": LABELS}, r"shape \(10, 3, 4, 4\)"),
        (WITH_TEST | {"x_test": IMAGES[6:, :2]}, "images of several shapes"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_each_invalid_array_is_refused_with_its_reason(tmp_path, arrays, sentence):
    path = tmp_path / "marks.npz"
    np.savez(path, allow_pickle=True, **arrays)

    with pytest.raises(BadInput, match=sentence):
        made(str(path))


def npy(values, **header):
    """Return the content of a .npy file with changes in its header."""
    buffer = io.BytesIO()
    said = np.lib.format.header_data_from_array_1_0(values) | header
    np.lib.format.write_array_header_1_0(buffer, said)
    return buffer.getvalue() + values.tobytes()


def packed(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (npy(IMAGES, shape=(99, 3, 4)), "declares 1,188 bytes of values but has 120"),
        (npy(IMAGES, shape=(9, 3, 4)), "declares 108 bytes of values but has 120"),
        (npy(IMAGES, shape=(10**11, 10**11, 10**11)), "declares 1,000,000,0.*has 120"),
        (npy(IMAGES, descr="<u2"), "declares 240 bytes of values but has 120"),
        (npy(IMAGES).replace(b"'|u1'", b"f()  "), "neither numbers nor text"),
        (npy(IMAGES)[:50], "neither numbers nor text"),
        (b"", "X of .* is not a .npy file"),
        (b"\x93NUMPY\x09\0v\0", "X of .* is not a .npy file"),
    ],
)
def test_an_invalid_npy_header_is_refused(tmp_path, content, sentence):
    path = packed(tmp_path / "marks.npz", X=content, y=npy(LABELS))

    with pytest.raises(BadInput, match=sentence):
        made(str(path))


def test_a_damaged_npz_file_is_refused(tmp_path):
    path = packed(tmp_path / "marks.npz", X=npy(IMAGES), y=npy(LABELS))
    whole = path.read_bytes()
    for content in (
        b"",
        b"PK\3\4",
        whole[:-30],
        whole[:300],
        b"\0" * 400 + whole[400:],
    ):
        path.write_bytes(content)
        with pytest.raises(BadInput, match="marks.npz is not a complete .npz file"):
            made(str(path))


@pytest.mark.slow
def test_a_bomb_in_an_npz_file_is_refused_unread(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("X.npy", "w", force_zip64=True) as file:
            for _ in range(33):
                file.write(bytes(64 << 20))
        archive.writestr("y.npy", npy(LABELS))

    message = in_a_box(
        "npz.read(path, {'train': ('X', 'y')})",
        path,
        "from tasks.sources import npz",
        memory=200 << 20,
    )

    assert message == f"X of {path} unpacks to more than 2,147,483,648 bytes."


@pytest.mark.slow
def test_a_bomb_of_a_forged_size_is_not_unpacked(tmp_path):
    path = packed(tmp_path / "bomb.npz", X=bytes(400 << 20), y=npy(LABELS))
    size = struct.pack("<I", 400 << 20)
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", 1000)))

    message = in_a_box(
        "npz.read(path, {'train': ('X', 'y')})",
        path,
        "from tasks.sources import npz",
        memory=200 << 20,
    )

    assert "bomb.npz is not a complete .npz file: it is damaged" in message


def test_unreadable_images_are_counted_and_refused(tmp_path):
    source = class_folders(tmp_path / "album")
    for row in (2, 6):
        (tmp_path / "album" / "cross" / f"{row:02}.png").write_bytes(b"GIF89a")

    with pytest.raises(
        BadInput,
        match=r"2 of 10 images can't be used; the first is .*02.png: it is not",
    ):
        made(source)


def test_an_unsupported_source_is_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()

    with pytest.raises(BadInput, match="empty has no images .*nor the four IDX files"):
        made(str(empty))
    with pytest.raises(BadInput, match="gone is neither a folder nor an .npz file"):
        made(str(tmp_path / "gone"))
    with pytest.raises(BadInput, match="gone.npz is neither a folder nor an .npz"):
        made(str(tmp_path / "gone.npz"))


def test_download_imports_scikit_learn_and_scipy_only_if_needed():
    program = "import sys, tasks.download; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert not {"sklearn", "scipy", "PIL", "pandas"} & set(ended.stdout.split())
