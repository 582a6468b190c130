"""Whatever the data comes as, the same four IDX files come of it."""

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
from conftest import ROOT, idx_bytes
from PIL import Image

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.download import Download, download
from tasks.rawdata.dataset_card import FOLDER
from tasks.rawdata.idx import FILES
from tasks.runtime import params
from tasks.runtime.params import BadInput
from tasks.sources import convert
from tasks.sources.convert import Conversion

FORM = ImageSpec(shape=(3, 4), brightest=255, box=None)
KIND = DatasetSpec(title="marks", form=FORM, classes=("cross", "line"))
SHADES = np.arange(5, 255, 25, dtype=np.uint8)
# Ten images of 3x4: a shade in a corner, and another in the middle.
IMAGES = np.zeros((10, 3, 4), np.uint8)
IMAGES[:, 0, 0], IMAGES[:, 1, 1] = SHADES, 255
LABELS = np.array([0, 1] * 5)
WORDS = np.array(["cross", "line"] * 5)
CUT = Conversion(test=4)


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


def made(source, conversion=CUT, kind=KIND):
    """The four files that a source is converted to, whatever the card's hashes."""
    parts, notes = convert.read(source, conversion.arrays, kind.form)
    parts, dropped = convert.distinct(parts)
    return convert.files(
        *convert.split(parts, conversion, kind.classes)
    ), notes + dropped


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_idx_files_gives_them_back(tmp_path, zipped):
    source = idx_folder(tmp_path / "idx", zipped=zipped)

    assert made(source, Conversion()) == (WANTED, [])


PARTED = {
    "x_train": IMAGES[:6],
    "y_train": LABELS[:6],
    "x_test": IMAGES[6:],
    "y_test": LABELS[6:],
}


@pytest.mark.parametrize(
    ("arrays", "conversion"),
    [
        ({"images": IMAGES, "labels": LABELS}, CUT),
        ({"X": IMAGES, "y": LABELS[:, None]}, CUT),
        ({"data": IMAGES[..., None], "target": WORDS}, CUT),
        ({"data": IMAGES.astype(">i4"), "target": WORDS.astype(">U5")}, CUT),
        ({"images": np.asfortranarray(IMAGES), "labels": LABELS.astype("u1")}, CUT),
        ({"images": IMAGES / 255, "labels": LABELS}, CUT),
        ({"images": (IMAGES / 255).astype("f2"), "labels": LABELS}, CUT),
        ({"images": IMAGES.astype(float), "labels": LABELS}, CUT),
        ({"images": np.stack([IMAGES] * 3, axis=-1), "labels": LABELS}, CUT),
        (PARTED, Conversion()),
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
def test_arrays_of_any_usual_kind_become_the_same_files(tmp_path, arrays, conversion):
    source = saved(tmp_path / "marks.npz", **arrays)

    assert made(source, conversion)[0] == WANTED


def test_rows_of_pixels_are_square_images_and_yes_and_no_are_1_and_0(tmp_path):
    rows = np.eye(9, dtype=bool)[:8]
    source = saved(tmp_path / "rows.npz", X=rows, y=LABELS[:8])

    contents, notes = made(source, Conversion(test=3))

    assert contents[FILES[0]] == idx_bytes(rows[:5].reshape(5, 3, 3))
    assert notes == ["each row of 9 pixels is an image of 3 x 3"]


def test_colours_become_grey_as_pillow_makes_them(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 3), np.uint8)
    source = saved(tmp_path / "colours.npz", X=colours, y=LABELS)

    contents, notes = made(source)

    greys = np.stack(
        [np.asarray(Image.fromarray(each).convert("L")) for each in colours]
    )
    assert contents[FILES[0]] == idx_bytes(greys[:6])
    assert notes == ["colours become grey (ITU-R 601)"]


def test_class_named_folders_are_read_in_the_order_of_their_names(tmp_path):
    source = class_folders(tmp_path / "album")
    (tmp_path / "album" / "cross" / "notes.txt").touch()
    (tmp_path / "album" / ".hidden").mkdir()
    by_class = np.argsort(LABELS, kind="stable")

    contents, _ = made(source)

    assert contents[FILES[0]] == idx_bytes(IMAGES[by_class][:6])
    assert contents[FILES[1]] == idx_bytes(LABELS[by_class][:6])


def test_folders_named_after_the_parts_hold_folders_named_after_classes(tmp_path):
    for part, rows in (("train", [0, 1, 2]), ("val", [4, 5]), ("Test", [7, 8])):
        class_folders(tmp_path / "album" / part, IMAGES[rows], WORDS[rows])

    contents, _ = made(str(tmp_path / "album"), Conversion())

    assert contents[FILES[0]] == idx_bytes(IMAGES[[0, 2, 1, 4, 5]])
    assert contents[FILES[3]] == idx_bytes(LABELS[[8, 7]])


def test_images_of_another_size_are_brought_to_the_form(tmp_path):
    large = IMAGES.repeat(10, axis=1).repeat(10, axis=2)

    contents, _ = made(class_folders(tmp_path / "album", large))

    assert contents[FILES[0]][:16] == WANTED[FILES[0]][:16]
    assert contents[FILES[0]] != WANTED[FILES[0]]


def test_the_digits_of_scikit_learn_are_as_their_sheet_says():
    card = ROOT / FOLDER / "digits.yaml"
    section = params.load("download", Download, card)
    kind = params.load("images", DatasetSpec, card)

    contents, notes = convert.to_idx_files(
        "sklearn:digits", section.bundle, kind, section.sha256
    )

    assert notes == ""
    assert len(contents[FILES[1]]) - 8 == 1500


def test_training_images_are_shuffled_by_the_seed_and_the_test_is_what_is_last(
    tmp_path,
):
    source = class_folders(tmp_path / "album")
    conversion = Conversion(test=4, seed=0)

    contents, _ = made(source, conversion)

    assert contents == made(source, conversion)[0]
    by_class = np.argsort(LABELS, kind="stable")
    order = np.random.default_rng(0).permutation(10)
    assert contents[FILES[3]] == idx_bytes(LABELS[by_class][order[6:]])


def test_an_image_stays_once_in_the_test_rather_than_in_training(tmp_path):
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
            "1 blank images are left out",
            "4 images that were there before are left out",
        ],
    )


def test_an_image_of_two_classes_is_refused_and_named(tmp_path):
    source = class_folders(tmp_path / "album")
    Image.fromarray(IMAGES[0]).save(tmp_path / "album" / "line" / "again.png")

    with pytest.raises(
        BadInput, match=r"1 images are of two .*'cross' as .*00.png and 'line' .*again"
    ):
        made(source)


@pytest.fixture
def section():
    return {"timeout": 1, "sha256": hashes(WANTED), "bundle": {"test": 4}}


def test_download_makes_the_files_of_a_bundle(tmp_path, section, capsys):
    source = saved(tmp_path / "marks.npz", X=IMAGES / 255, y=WORDS)
    target = tmp_path / "raw"

    assert download(Download(**section, sources=[source]), target, KIND) == source

    assert {path.name: path.read_bytes() for path in target.iterdir()} == WANTED
    assert "marks.npz: pixels are shares of 0 to 1" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["value", "more", "form"])
def test_data_that_changed_is_refused_with_what_to_do(tmp_path, section, change):
    folder, kind = tmp_path / "album", KIND
    source = class_folders(folder)
    section["sha256"] = hashes(made(source)[0])
    settled = Download(**section, sources=[source])
    download(settled, tmp_path / "raw", kind)
    other = np.full((3, 4), 9, np.uint8)
    other[0, 0] = 0
    match change:
        case "value":
            Image.fromarray(other).save(folder / "cross" / "00.png")
        case "more":
            Image.fromarray(other).save(folder / "cross" / "10.png")
        case "form":
            form = ImageSpec(shape=(5, 5), brightest=255, box=None)
            kind = DatasetSpec(title="marks", form=form, classes=KIND.classes)

    with pytest.raises(
        BadInput,
        match="album is not the data that .*`python -m flows.new_dataset FOLDER --fo",
    ):
        download(settled, tmp_path / "raw2", kind)
    assert not (tmp_path / "raw2").exists()


def test_files_that_changed_are_refused_with_what_to_do(tmp_path, section):
    source = idx_folder(tmp_path / "idx")
    (tmp_path / "idx" / FILES[3]).write_bytes(idx_bytes(LABELS[:4] + 1))
    settled = Download(**section | {"bundle": None}, sources=[source])

    with pytest.raises(
        BadInput,
        match=f"{FILES[3]} is another file.*`python -m flows.new_dataset FOLDER --fo",
    ):
        download(settled, tmp_path / "raw", KIND)


def test_a_sheet_may_allow_larger_files(tmp_path, section, monkeypatch):
    monkeypatch.setattr(convert.fetch, "MAX_BYTES", 80)
    source = idx_folder(tmp_path / "idx", zipped=True)
    section |= {"bundle": None, "sources": [source]}

    with pytest.raises(BadInput, match="unpacks to more than 80 bytes"):
        download(Download(**section), tmp_path / "raw")
    download(Download(**section, max_bytes=100), tmp_path / "raw")


@pytest.mark.parametrize(
    ("conversion", "sentence"),
    [
        (Conversion(), "no test images of its own; say by `download.bundle.test`"),
        (Conversion(test=10), "`download.bundle.test` is 10, but there are only 10"),
        (Conversion(test=4, labels=("cross", "dot")), "label 'line', which is none of"),
        (Conversion(test=4, arrays={"train": ("X", "z")}), "npz has no array z"),
        (Conversion(test=4, arrays={"test": ("X", "y")}), "names none for `train`"),
    ],
)
def test_a_conversion_that_does_not_fit_is_refused(tmp_path, conversion, sentence):
    source = saved(tmp_path / "marks.npz", X=IMAGES, y=WORDS)

    with pytest.raises(BadInput, match=sentence):
        made(source, conversion)


def test_images_held_out_from_data_with_a_test_of_its_own_are_refused(tmp_path):
    source = saved(tmp_path / "marks.npz", **PARTED)

    with pytest.raises(BadInput, match=r"has test images; remove `download.bundle.te"):
        made(source, CUT)


OBJECTS = np.array([None] * 10)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": IMAGES}, "holds images; which of them are images and labels"),
        ({"X": IMAGES, "y": OBJECTS}, "y of .* holds Python objects, .*never loaded"),
        ({"X": OBJECTS, "y": LABELS}, "X of .* holds Python objects"),
        ({"X": IMAGES, "y": LABELS[:9]}, "9 labels for 10 images"),
        ({"X": IMAGES, "y": LABELS / 2}, "labels of .* are float64 of shape"),
        ({"X": IMAGES, "y": np.eye(10, dtype=int)}, "labels .* int64 of shape"),
        ({"X": IMAGES.astype(complex), "y": LABELS}, "neither of numbers nor of text"),
        ({"X": WORDS, "y": LABELS}, "has images of <U5, not of numbers"),
        ({"X": IMAGES - 1.0, "y": LABELS}, "pixels of -1 to 254; 0 to 255"),
        ({"X": IMAGES.astype(int) * 2, "y": LABELS}, "pixels of 0 to 510"),
        ({"X": IMAGES / 2, "y": LABELS}, "neither whole numbers nor all of 0 to 1"),
        ({"X": IMAGES * np.nan, "y": LABELS}, r"no numbers \(NaN or infinite\)"),
        ({"X": IMAGES[:0], "y": LABELS}, "announces 0 bytes and has 0"),
        ({"X": IMAGES.reshape(10, 12), "y": LABELS}, r"of shape \(10, 12\)"),
        ({"X": np.stack([IMAGES] * 4, -1), "y": LABELS}, r"shape \(10, 3, 4, 4\)"),
        (PARTED | {"x_test": IMAGES[6:, :2]}, "images of several shapes"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_arrays_that_are_no_images_have_their_sentence(tmp_path, arrays, sentence):
    path = tmp_path / "marks.npz"
    np.savez(path, allow_pickle=True, **arrays)

    with pytest.raises(BadInput, match=sentence):
        made(str(path))


def npy(values, **header):
    """The content of a .npy file whose header may say something else."""
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
        (npy(IMAGES, shape=(99, 3, 4)), "announces 1,188 bytes and has 120"),
        (npy(IMAGES, shape=(9, 3, 4)), "announces 108 bytes and has 120"),
        (npy(IMAGES, shape=(10**11, 10**11, 10**11)), "announces 1,000,000,0.*has 120"),
        (npy(IMAGES, descr="<u2"), "announces 240 bytes and has 120"),
        (npy(IMAGES).replace(b"'|u1'", b"f()  "), "neither of numbers nor of text"),
        (npy(IMAGES)[:50], "neither of numbers nor of text"),
        (b"", "X of .* is no .npy file"),
        (b"\x93NUMPY\x09\0v\0", "X of .* is no .npy file"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, content, sentence):
    path = packed(tmp_path / "marks.npz", X=content, y=npy(LABELS))

    with pytest.raises(BadInput, match=sentence):
        made(str(path))


def test_what_is_no_archive_is_refused(tmp_path):
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
        with pytest.raises(BadInput, match="marks.npz is no whole .npz file"):
            made(str(path))


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("X.npy", "w", force_zip64=True) as file:
            for _ in range(33):
                file.write(bytes(64 << 20))
        archive.writestr("y.npy", npy(LABELS))

    said = in_a_box(
        "npz.read(path, ['X', 'y'])",
        path,
        "from tasks.sources import npz",
        memory=200 << 20,
    )

    assert said == f"X of {path} unpacks to more than 2,147,483,648 bytes."


def test_a_bomb_that_says_it_is_small_gives_no_more_than_it_says(tmp_path):
    path = packed(tmp_path / "bomb.npz", X=bytes(400 << 20), y=npy(LABELS))
    size = struct.pack("<I", 400 << 20)
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", 1000)))

    said = in_a_box(
        "npz.read(path, ['X', 'y'])",
        path,
        "from tasks.sources import npz",
        memory=200 << 20,
    )

    assert "is no whole .npz file: Bad CRC-32" in said


def test_images_that_cannot_be_read_are_refused_with_their_number(tmp_path):
    source = class_folders(tmp_path / "album")
    for row in (2, 6):
        (tmp_path / "album" / "cross" / f"{row:02}.png").write_bytes(b"GIF89a")

    with pytest.raises(
        BadInput, match=r"2 of 10 images can't be used, the first is .*02.png: it is no"
    ):
        made(source)


def test_what_is_no_bundle_is_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()

    with pytest.raises(BadInput, match="empty has no images .*nor the four IDX files"):
        made(str(empty))
    with pytest.raises(BadInput, match="gone is neither a folder nor an .npz file"):
        made(str(tmp_path / "gone"))
    with pytest.raises(BadInput, match="gone.npz is neither a folder nor an .npz"):
        made(str(tmp_path / "gone.npz"))


def test_only_who_needs_scikit_learn_or_scipy_waits_for_their_import():
    program = "import sys, tasks.download; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert not {"sklearn", "scipy", "PIL", "pandas"} & set(ended.stdout.split())
