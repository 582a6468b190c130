"""What is guessed of data that nobody described, and what is measured."""

import dataclasses
import hashlib

import numpy as np
import pytest
import yaml
from conftest import ROOT, idx_bytes
from PIL import Image, ImageDraw

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.download import Download, download
from tasks.onboarding import infer_card
from tasks.rawdata.idx import FILES
from tasks.runtime import params
from tasks.runtime.params import BadInput
from tasks.sources import convert

RNG = np.random.default_rng(0)
COUNT = 120
NOISE = RNG.integers(1, 256, (COUNT, 6, 5), np.uint8)
KINDS = RNG.integers(0, 3, COUNT)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def infer(source):
    return infer_card.infer(source, "some data")


def class_folders(folder, draw, count=20, classes=("bar", "ring")):
    """Class-named folders of drawings, no two alike."""
    for kind in classes:
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            draw(kind, number).save(folder / kind / f"{number:02}.png")
    return str(folder)


def scan(kind, number):
    """Ink on paper, of a size of its own."""
    image = Image.new("L", (60 + number, 70), 240)
    pen, box = ImageDraw.Draw(image), (15, 15, 30 + number, 50)
    if kind == "ring":
        pen.ellipse(box, outline=20, width=4)
    else:
        pen.line(box, fill=20, width=4)
    return image


def photograph(kind, number):
    values = RNG.integers(0, 256, (80 + number, 90), np.uint8)
    return Image.fromarray(values // (1 if kind == "ring" else 2))


def tile(kind, number):
    values = RNG.integers(0, 17, (8, 9), np.uint8)
    values[0, 0] = 16 if kind == "ring" else 15
    return Image.fromarray(values)


def test_an_npz_without_a_test_part_is_cut_by_sixths(tmp_path):
    found = infer(npz(tmp_path / "a.npz", X=NOISE, y=KINDS))

    assert found.spec == DatasetSpec(
        title="some data",
        form=ImageSpec(shape=(6, 5), brightest=255, box=None),
        classes=("0", "1", "2"),
    )
    assert found.conversion == convert.Conversion(arrays={"train": ("X", "y")}, test=20)
    assert [len(found.train.labels), len(found.test.labels)] == [100, 20]
    assert found.validation == 16
    assert found.found == ["120 images of 6 x 5", "3 classes: 0, 1, 2"]
    assert found.assumptions == [
        "train: the images are `X`, their labels `y`",
        "the classes are called as their labels",
        "test: the last 20 of 120 images",
        "validation: the last 16 of the 100 training images",
    ]


def test_parts_of_their_own_are_kept(tmp_path):
    parts = {
        f"{part}_{kind}": values[rows]
        for part, rows in (
            ("train", slice(80)),
            ("val", slice(80, 100)),
            ("test", slice(100, 120)),
        )
        for kind, values in (("images", NOISE), ("labels", KINDS))
    }

    found = infer(npz(tmp_path / "a.npz", **parts))

    assert (found.conversion.test, found.conversion.seed, found.validation) == (
        None,
        None,
        20,
    )
    assert found.train.labels.tolist() == KINDS[:100].tolist()


@pytest.mark.parametrize(
    ("images", "brightest"),
    [
        (NOISE, 255),
        (NOISE // 16, 16),
        (NOISE % 17, 16),
        (NOISE % 18, 255),
        (NOISE % 2 == 1, 1),
        (NOISE / 255, 255),
    ],
)
def test_the_brightest_is_the_next_that_people_use(tmp_path, images, brightest):
    found = infer(npz(tmp_path / "a.npz", X=images, y=KINDS))

    assert found.spec.form.brightest == brightest


def test_names_are_those_of_the_labels_and_may_need_cleaning(tmp_path):
    names = np.array(["a/b", "T-shirt", "été"])
    found = infer(npz(tmp_path / "a.npz", X=NOISE, y=names[KINDS]))

    assert found.spec.classes == ("T-shirt", "a b", "été")
    assert found.conversion.labels == ("T-shirt", "a/b", "été")


def test_labels_that_do_not_count_from_0_are_named_and_kept(tmp_path):
    found = infer(npz(tmp_path / "a.npz", X=NOISE, y=KINDS * 2 + 1))

    assert found.conversion.labels == (1, 3, 5)
    assert found.spec.classes == ("1", "3", "5")


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.zeros(COUNT, int), "The data has 1 different labels; 2 to 256 classes"),
        (np.array(["a/", "a?", "b"])[KINDS], r"'a/', 'a\?', 'b' can't all be names"),
        (np.arange(COUNT) // 119, "for training none is left of class 1"),
    ],
)
def test_labels_that_make_no_classes_are_refused(tmp_path, labels, sentence):
    with pytest.raises(BadInput, match=sentence):
        infer(npz(tmp_path / "a.npz", X=NOISE, y=labels))


def test_what_comes_class_by_class_is_shuffled(tmp_path):
    found = infer(npz(tmp_path / "a.npz", X=NOISE, y=np.sort(KINDS)))

    assert found.conversion.seed == 0
    assert "come class by class: they are shuffled (seed 0)" in found.assumptions[2]
    assert len(set(found.test.labels)) == 3


def test_images_there_twice_and_blank_ones_are_counted_and_left_out(tmp_path):
    images = np.concatenate([NOISE, NOISE[:3], np.zeros((2, 6, 5), np.uint8)])
    labels = np.concatenate([KINDS, KINDS[:3], [0, 1]])

    found = infer(npz(tmp_path / "a.npz", X=images, y=labels))

    assert found.found[0] == "125 images of 6 x 5"
    assert found.found[2:] == [
        "2 blank images were dropped",
        "3 repeated images were dropped",
    ]
    assert len(found.train.labels) + len(found.test.labels) == COUNT


def idx_folder(folder, images=NOISE, labels=KINDS):
    folder.mkdir()
    values = (images[20:], labels[20:], images[:20], labels[:20])
    for name, array in zip(FILES, values, strict=True):
        (folder / name).write_bytes(idx_bytes(array))
    return str(folder)


def test_idx_files_are_taken_as_they_are(tmp_path):
    found = infer(idx_folder(tmp_path / "idx"))

    assert found.conversion is None
    assert found.train.images.tolist() == NOISE[20:].tolist()


@pytest.mark.parametrize(
    ("labels", "conversion"),
    [
        (KINDS + 1, convert.Conversion(labels=(1, 2, 3))),
        (np.r_[KINDS[:20], np.sort(KINDS[20:])], convert.Conversion(seed=0)),
    ],
)
def test_idx_files_that_need_it_are_made_anew(tmp_path, labels, conversion):
    assert infer(idx_folder(tmp_path / "idx", labels=labels)).conversion == conversion


def test_scans_of_several_sizes_get_mnists_form(tmp_path):
    found = infer(class_folders(tmp_path / "album", scan))

    assert found.spec.form == ImageSpec(shape=(28, 28), brightest=255, box=20)
    assert "they look like ink on paper" in found.assumptions[1]
    assert found.train.images.max() == 255
    assert found.train.images[:, 0].max() == 0


def test_photographs_are_scaled_as_a_whole(tmp_path):
    found = infer(class_folders(tmp_path / "album", photograph))

    assert found.spec.form == ImageSpec(shape=(28, 28), brightest=255, box=None)
    assert found.assumptions[1].startswith("they are no ink on paper")


def test_small_images_of_one_size_are_taken_as_they_are(tmp_path):
    source = class_folders(tmp_path / "album", tile)
    (tmp_path / "album" / "bar" / "readme.txt").touch()

    found = infer(source)

    assert found.spec.form == ImageSpec(shape=(8, 9), brightest=16, box=None)
    assert found.assumptions[1] == (
        "the images are all of one size, and are taken as they are"
    )
    assert "1 other files are passed over" in found.found
    taken = {image.tobytes() for image in found.train.images}
    assert np.asarray(Image.open(tmp_path / "album/bar/00.png")).tobytes() in (
        taken | {image.tobytes() for image in found.test.images}
    )


def test_images_made_as_mnists_are_told(tmp_path):
    images = np.zeros((COUNT, 28, 28), np.uint8)
    images[:, 4:24, 6:22] = RNG.integers(100, 255, (COUNT, 20, 16))

    found = infer(npz(tmp_path / "a.npz", X=images, y=KINDS))

    assert found.spec.form.box == 20
    moved = infer(npz(tmp_path / "a.npz", X=np.roll(images, 3, axis=1), y=KINDS))
    assert moved.spec.form.box is None


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("My Photos (2)", "my_photos_2"),
        ("2024-scans", "data_2024_scans"),
        ("éé", "data"),
        ("x" * 60, "x" * 40),
    ],
)
def test_a_name_is_made_of_the_folders(called, name):
    assert infer_card.name_of(called) == name


def test_the_sheet_that_is_written_makes_the_same_files(tmp_path):
    source = npz(tmp_path / 'a "b": #1.npz', X=NOISE, y=np.sort(KINDS))
    found = infer(source)

    path = infer_card.write(found, "noise", tmp_path / "datasets")

    section = params.load("download", Download, path)
    kind = params.load("images", DatasetSpec, path)
    assert section.sources == (source,)
    download(section, tmp_path / "raw", kind)
    assert (
        hashlib.sha256((tmp_path / "raw" / FILES[0]).read_bytes()).hexdigest()
        == (section.sha256[FILES[0]])
    )
    card = yaml.safe_load(path.read_text())
    assert card["validate"]["counts"] == {"train": 100, "test": 20}
    low, high = card["validate"]["mean_ink"]
    means = NOISE.mean(axis=(1, 2))
    assert low < means.min() < means.max() < high
    assert card["normalize"] == {"validation": 16}
    assert card["report"] == {"loss": {}, "accuracy": {}, "suspicious": None}


def test_a_sheet_that_the_data_breaks_is_not_written(tmp_path):
    found = infer(npz(tmp_path / "a.npz", X=NOISE, y=KINDS))
    form = ImageSpec(shape=(6, 5), brightest=240, box=None)
    kind = DatasetSpec(title="noise", form=form, classes=found.spec.classes)
    found = dataclasses.replace(found, spec=kind)

    with pytest.raises(BadInput, match="breaks its dataset card"):
        infer_card.write(found, "noise", tmp_path / "datasets")
    assert not (tmp_path / "datasets").exists()


def test_a_name_that_yaml_does_not_take_is_refused(tmp_path):
    found = infer(npz(tmp_path / "a\u2028.npz", X=NOISE, y=KINDS))

    with pytest.raises(BadInput, match="can't be written into a dataset card; rename"):
        infer_card.write(found, "noise", tmp_path)


def test_the_sheet_of_larger_files_allows_them(tmp_path, monkeypatch):
    monkeypatch.setattr(infer_card.fetch, "MAX_BYTES", 1000)
    found = infer(idx_folder(tmp_path / "idx"))

    path = infer_card.write(found, "noise", tmp_path)

    section = params.load("download", Download, path)
    assert section.max_bytes == 3016
    download(section, tmp_path / "raw", params.load("images", DatasetSpec, path))


def test_the_sheet_of_the_digits_is_still_what_the_command_finds():
    found = infer_card.infer(convert.DIGITS, "digits")
    kind = params.load("images", DatasetSpec, ROOT / "datasets" / "digits.yaml")

    assert (found.spec.form, found.spec.classes) == (kind.form, kind.classes)
    assert found.found == [
        "1797 images of 8 x 8",
        f"10 classes: {', '.join('0123456789')}",
    ]
