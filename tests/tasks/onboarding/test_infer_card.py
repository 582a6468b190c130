"""Inferred dataset cards: what is measured, what is guessed, and what is refused."""

import re
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from conftest import ROOT, idx_bytes
from PIL import Image, ImageDraw

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.download import Download, download
from tasks.onboarding import infer_card
from tasks.rawdata import idx
from tasks.rawdata.idx import FILES
from tasks.runtime import params
from tasks.runtime.params import BadInput
from tasks.sources import convert, fetch

RNG = np.random.default_rng(0)
COUNT = 120
NOISE = RNG.integers(1, 256, (COUNT, 6, 5), np.uint8)
LABELS = RNG.integers(0, 3, COUNT)


class Inferred(NamedTuple):
    """An inferred card and its sections."""

    card: infer_card.InferredCard
    sections: dict
    download: Download
    spec: DatasetSpec


@pytest.fixture
def infer(tmp_path):
    def infer(source):
        path = tmp_path / "card.yaml"
        card = infer_card.infer(source, "some_data", "some data")
        path.write_text(card.text)
        return Inferred(
            card=card,
            sections=yaml.safe_load(card.text),
            download=params.load("download", Download, path),
            spec=params.load("images", DatasetSpec, path),
        )

    return infer


@pytest.fixture
def raw_files(tmp_path):
    """Return the arrays of the four files that `download` makes from a card."""

    def raw_files(inferred):
        download(inferred.download, tmp_path / "raw", inferred.spec)
        return [idx.read(tmp_path / "raw" / name) for name in FILES]

    return raw_files


@pytest.fixture
def npz(tmp_path):
    def npz(name="a.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return str(tmp_path / name)

    return npz


def image_folder(folder, draw, count=12):
    """Write class-named folders of drawings, no two alike."""
    for label in ("bar", "ring"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            draw(label, number).save(folder / label / f"{number:02}.png")
    return str(folder)


def scan(label, number):
    """Draw dark strokes on paper; each image has another size."""
    image = Image.new("L", (30 + number, 35), 240)
    pen, box = ImageDraw.Draw(image), (7, 7, 15 + number, 25)
    if label == "ring":
        pen.ellipse(box, outline=20, width=2)
    else:
        pen.line(box, fill=20, width=2)
    return image


def photograph(label, number):
    values = RNG.integers(0, 256, (80 + number, 90), np.uint8)
    return Image.fromarray(values // (1 if label == "ring" else 2))


def tile(label, _number):
    values = RNG.integers(0, 17, (8, 9), np.uint8)
    values[0, 0] = 16 if label == "ring" else 15
    return Image.fromarray(values)


def idx_folder(folder, images=NOISE, labels=LABELS):
    folder.mkdir()
    values = (images[20:], labels[20:], images[:20], labels[:20])
    for name, array in zip(FILES, values, strict=True):
        (folder / name).write_bytes(idx_bytes(array))
    return str(folder)


def test_npz_without_a_test_set_is_split_by_sixths(npz, infer):
    inferred = infer(npz(X=NOISE, y=LABELS))

    assert inferred.spec == DatasetSpec(
        title="some data",
        form=ImageSpec(shape=(6, 5), brightest=255, box=None),
        classes=("0", "1", "2"),
    )
    assert inferred.download.bundle == convert.Conversion(
        arrays={"train": ("X", "y")}, test=20
    )
    assert inferred.sections["validate"]["counts"] == {"train": 100, "test": 20}
    assert inferred.sections["normalize"] == {"validation": 16}
    assert inferred.card.findings == ["120 images of 6 x 5", "3 classes: 0, 1, 2"]
    assert inferred.card.assumptions == [
        "train: the images are `X`, their labels `y`",
        "the classes are named after their labels",
        "test: the last 20 of 120 images",
        "validation: the last 16 of the 100 training images",
    ]


def test_splits_of_the_source_are_kept(npz, infer, raw_files):
    rows_by_split = {
        "train": slice(80),
        "val": slice(80, 100),
        "test": slice(100, 120),
    }
    source = npz(
        **{f"{split}_images": NOISE[rows] for split, rows in rows_by_split.items()},
        **{f"{split}_labels": LABELS[rows] for split, rows in rows_by_split.items()},
    )

    inferred = infer(source)

    assert inferred.download.bundle.test is inferred.download.bundle.seed is None
    assert inferred.sections["normalize"] == {"validation": 20}
    assert raw_files(inferred)[1].tolist() == LABELS[:100].tolist()


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
def test_brightest_pixel_is_the_next_usual_value(npz, infer, images, brightest):
    assert infer(npz(X=images, y=LABELS)).spec.form.brightest == brightest


def test_class_names_are_cleaned_and_labels_are_kept(npz, infer):
    names = np.array(["a/b", "T-shirt", "été"])
    inferred = infer(npz(X=NOISE, y=names[LABELS]))

    assert inferred.spec.classes == ("T-shirt", "a b", "été")
    assert inferred.download.bundle.labels == ("T-shirt", "a/b", "été")


def test_labels_that_do_not_count_from_0_are_kept(npz, infer):
    inferred = infer(npz(X=NOISE, y=LABELS * 2 + 1))

    assert inferred.download.bundle.labels == (1, 3, 5)
    assert inferred.spec.classes == ("1", "3", "5")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(COUNT, int), "1 different labels, but 2 to 256 classes"),
        (np.array(["a/", "a?", "b"])[LABELS], r"'a/', 'a\?', 'b' .* class names"),
        (np.arange(COUNT) // 119, "the training set has none of class 1"),
    ],
)
def test_labels_that_cannot_become_classes_are_refused(npz, infer, labels, message):
    with pytest.raises(BadInput, match=message):
        infer(npz(X=NOISE, y=labels))


def test_blank_images_alone_are_refused(npz, infer):
    with pytest.raises(BadInput, match="All images are blank"):
        infer(npz(X=np.zeros_like(NOISE), y=LABELS))


def test_sorted_images_are_shuffled(npz, infer, raw_files):
    inferred = infer(npz(X=NOISE, y=np.sort(LABELS)))

    assert inferred.download.bundle.seed == 0
    assert "shuffled (seed 0)" in inferred.card.assumptions[2]
    assert len(set(raw_files(inferred)[3])) == 3


def test_repeated_and_blank_images_are_left_out(npz, infer):
    images = np.concatenate([NOISE, NOISE[:3], np.zeros((2, 6, 5), np.uint8)])
    labels = np.concatenate([LABELS, LABELS[:3], [0, 1]])

    inferred = infer(npz(X=images, y=labels))

    assert inferred.card.findings[0] == "125 images of 6 x 5"
    blank, repeated = inferred.card.findings[2:]
    assert re.match("2 blank images", blank)
    assert re.match("3 images", repeated)
    assert sum(inferred.sections["validate"]["counts"].values()) == COUNT


def test_idx_files_are_used_unchanged(tmp_path, infer, raw_files):
    inferred = infer(idx_folder(tmp_path / "idx"))

    assert inferred.download.bundle is None
    assert raw_files(inferred)[0].tolist() == NOISE[20:].tolist()


@pytest.mark.parametrize(
    ("labels", "conversion"),
    [
        (LABELS + 1, convert.Conversion(labels=(1, 2, 3))),
        (np.r_[LABELS[:20], np.sort(LABELS[20:])], convert.Conversion(seed=0)),
    ],
)
def test_idx_files_are_converted_if_necessary(tmp_path, infer, labels, conversion):
    inferred = infer(idx_folder(tmp_path / "idx", labels=labels))

    assert inferred.download.bundle == conversion


def test_scans_of_several_sizes_are_framed_as_in_mnist(tmp_path, infer, raw_files):
    inferred = infer(image_folder(tmp_path / "images", scan))

    assert inferred.spec.form == ImageSpec(shape=(28, 28), brightest=255, box=20)
    assert "look like strokes on paper" in inferred.card.assumptions[1]
    images = raw_files(inferred)[0]
    assert images.max() == 255
    assert images[:, 0].max() == 0


def test_photographs_are_scaled_as_a_whole(tmp_path, infer):
    inferred = infer(image_folder(tmp_path / "images", photograph))

    assert inferred.spec.form == ImageSpec(shape=(28, 28), brightest=255, box=None)
    assert "do not look like strokes on paper" in inferred.card.assumptions[1]


def test_small_images_of_one_size_keep_their_pixels(tmp_path, infer, raw_files):
    source = image_folder(tmp_path / "images", tile)
    (tmp_path / "images" / "bar" / "readme.txt").touch()

    inferred = infer(source)

    assert inferred.spec.form == ImageSpec(shape=(8, 9), brightest=16, box=None)
    assert "1 other files" in inferred.card.assumptions[1]
    assert "one size" in inferred.card.assumptions[2]
    train, _, test, _ = raw_files(inferred)
    original = np.asarray(Image.open(tmp_path / "images/bar/00.png"))
    assert original.tobytes() in {image.tobytes() for image in [*train, *test]}


def test_splits_in_image_folders_are_reported(tmp_path, infer):
    for split in ("train", "test"):
        image_folder(tmp_path / "images" / split, tile)

    inferred = infer(str(tmp_path / "images"))

    assert "the folders test, train are splits" in inferred.card.assumptions[1]
    assert inferred.sections["validate"]["counts"] == {"train": 24, "test": 24}


def test_framing_of_mnist_is_recognized_in_arrays(npz, infer):
    images = np.zeros((COUNT, 28, 28), np.uint8)
    images[:, 4:24, 6:22] = RNG.integers(100, 255, (COUNT, 20, 16))

    assert infer(npz(X=images, y=LABELS)).spec.form.box == 20
    shifted = np.roll(images, 3, axis=1)
    assert infer(npz(X=shifted, y=LABELS)).spec.form.box is None


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("My Photos (2)", "my_photos_2"),
        ("2024-scans", "data_2024_scans"),
        ("éé", "data"),
        ("x" * 60, "x" * 40),
    ],
)
def test_name_of_a_card_comes_from_the_title(title, name):
    assert infer_card.name_of(title) == name


def test_limits_include_the_measured_values_with_a_margin(npz, infer):
    inferred = infer(npz('a "b": #1.npz', X=NOISE, y=np.sort(LABELS)))

    low, high = inferred.sections["validate"]["mean_pixel"]
    means = NOISE.mean(axis=(1, 2))
    assert low < means.min() < means.max() < high
    assert inferred.sections["validate"]["brightest"] < NOISE.max(axis=(1, 2)).min()
    assert inferred.sections["report"] == {
        "loss": {},
        "accuracy": {},
        "suspicious": None,
    }


def test_card_that_the_data_breaks_is_refused(npz, infer, tmp_path, monkeypatch):
    template = tmp_path / "card.j2"
    text = infer_card.TEMPLATE.read_text()
    template.write_text(text.replace("{{ counts.train }}", "7"))
    monkeypatch.setattr(infer_card, "TEMPLATE", template)

    with pytest.raises(BadInput, match="breaks its dataset card"):
        infer(npz(X=NOISE, y=LABELS))


def test_path_that_cannot_be_written_as_yaml_is_refused(npz, infer):
    with pytest.raises(BadInput, match="rename"):
        infer(npz("a\u2028.npz", X=NOISE, y=LABELS))


def test_card_of_large_idx_files_raises_the_size_limit(
    tmp_path, infer, raw_files, monkeypatch
):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1000)

    inferred = infer(idx_folder(tmp_path / "idx"))

    assert inferred.download.max_bytes == 3016
    raw_files(inferred)


def test_card_of_the_digits_is_what_the_command_infers(infer):
    inferred = infer(convert.DIGITS)
    path = ROOT / "datasets" / "digits.yaml"

    spec = params.load("images", DatasetSpec, path)
    assert (inferred.spec.form, inferred.spec.classes) == (spec.form, spec.classes)
    assert inferred.download.sources == params.load("download", Download, path).sources
    assert inferred.card.findings[0] == "1797 images of 8 x 8"
