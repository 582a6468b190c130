"""Convert a dataset in another format into the four IDX files.

A source is `sklearn:digits`, an `.npz` file, a folder of class-named folders of images,
or a folder with four IDX files that have to be sorted first. The result depends
on nothing but the source and the `Conversion`, so the dataset card can pin its hashes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tasks.dataset.spec import DatasetSpec, ImageSpec
from tasks.dataset.splits import Pixels, Split, SplitName
from tasks.imaging import grayscale
from tasks.rawdata import idx
from tasks.runtime.params import BadInput, Count, Settings
from tasks.sources import fetch, npz
from tasks.sources.fetch import Files, Hashes

DIGITS = "sklearn:digits"
# Which part keeps an image that several have: what was tested elsewhere stays whole.
PRECEDENCE: tuple[SplitName, ...] = ("test", "valid", "train")

Array = npt.NDArray[Any]
ArrayName = Annotated[str, Field(min_length=1)]
Pair = Annotated[tuple[ArrayName, ArrayName], Field(strict=False)]


class Conversion(Settings):
    """`bundle` in the section `download`: how the source becomes the four files.

    Attributes:
        arrays: of an `.npz` file, which arrays are images and labels, by part; None: as
            their names tell.
        labels: the source's own labels, in the order of `images.classes`;
            None: 0, 1 and so on, or as `images.classes` does.
        seed: of the order of the training images; None: as they come. Where they come
            class by class, the last of them are no sample for validation.
        test: images held out for the test, from the end; None: the source has some.
    """

    arrays: dict[SplitName, Pair] | None = None
    labels: (
        Annotated[
            tuple[int | str, ...], Field(strict=False, min_length=2, max_length=256)
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    test: Count | None = None


class Part(NamedTuple):
    """One split of the source.

    Attributes:
        images: uint8 (N, rows, columns).
        labels: whole numbers or text, (N,), as in the source.
        origins: where each image is in the source, for errors.
    """

    images: Pixels
    labels: Array
    origins: Sequence[str]


Parts = dict[SplitName, Part]
Pairs = dict[SplitName, tuple[Array, Array]]


def to_idx_files(
    source: str, conversion: Conversion, spec: DatasetSpec, sha256: Hashes
) -> tuple[Files, str]:
    """Return the content of the four IDX files, and what was done, in a few words.

    Raises:
        BadInput: the source can't be converted, or its hashes are others.
    """
    parts, notes = read(source, conversion.arrays, spec.form)
    parts, dropped = distinct(parts)
    train, test = split(parts, conversion, spec.classes)
    contents = files(train, test)
    if digests(contents) != dict(sha256):
        raise BadInput(
            f"{source} is not the data that the hashes in its dataset card are of: it "
            "was changed, or the preprocessing of its images was."
        )
    return contents, "; ".join([*notes, *dropped])


def read(
    source: str,
    arrays: Mapping[SplitName, tuple[str, str]] | None,
    image_spec: ImageSpec,
) -> tuple[Parts, list[str]]:
    """Return the splits of the source, and how its images became grey, in sentences.

    Args:
        source: `sklearn:digits`, or the path of an `.npz` file or a folder.
        arrays: as in `Conversion`.
        image_spec: what the images of class-named folders are preprocessed to.

    Raises:
        BadInput: it is none of these, or something in it can't be used.
    """
    path = Path(source)
    if source == DIGITS:
        return _of_scikit_learn()
    if path.suffix == ".npz" and path.is_file():
        return _of_arrays(path, arrays or npz.infer_arrays(path))  # type: ignore[arg-type]
    if path.is_dir():
        return (
            _of_idx(path) if holds_idx(path) else _of_image_folder(path, image_spec)
        ), []
    raise BadInput(f"{source} is neither a folder nor an .npz file, nor {DIGITS}.")


def holds_idx(folder: Path) -> bool:
    """Return whether the folder has one of the four IDX files, gzipped or not."""
    return any(
        (folder / f"{name}{end}").exists() for name in idx.FILES for end in ("", ".gz")
    )


def distinct(parts: Parts) -> tuple[Parts, list[str]]:
    """Return `parts` without blank images, each image once, and what was left out.

    The first of several stays; one that the test has is none for training.

    Raises:
        BadInput: the same image is of two classes.
    """
    seen: dict[bytes, tuple[Any, str]] = {}
    unique: Parts = {}
    blank, repeated, conflicts = 0, 0, []
    for name in (name for name in PRECEDENCE if name in parts):
        part, rows = parts[name], []
        for row, (image, label) in enumerate(
            zip(part.images, part.labels.tolist(), strict=True)
        ):
            content, here = image.tobytes(), (label, part.origins[row])
            before = seen.setdefault(content, here)
            if image.max() == image.min():
                blank += 1
            elif before is here:
                rows.append(row)
            elif before[0] == label:
                repeated += 1
            else:
                conflicts.append((before, here))
        unique[name] = Part(
            part.images[rows], part.labels[rows], [part.origins[row] for row in rows]
        )
    _refuse_conflicts(conflicts)
    notes = [f"{blank} blank images are left out"] if blank else []
    if repeated:
        notes.append(f"{repeated} images that were there before are left out")
    return {name: unique[name] for name in parts}, notes


def split(
    parts: Parts, conversion: Conversion, class_names: tuple[str, ...]
) -> tuple[Split, Split]:
    """Return training and test images; those for validation are the last of training's.

    Raises:
        BadInput: a label is unknown, or a split has no image.
    """
    labelled = {
        name: Split(part.images, _indices(part, conversion.labels, class_names))
        for name, part in parts.items()
    }
    train = labelled["train"]
    if conversion.seed is not None:
        # Should NumPy ever shuffle otherwise, the hashes tell.
        order = np.random.default_rng(conversion.seed).permutation(len(train.labels))
        train = Split(train.images[order], train.labels[order])
    if (test := labelled.get("test")) is None:
        train, test = _cut(train, conversion.test)
    elif conversion.test is not None:
        raise BadInput("The data has test images; remove `download.bundle.test`.")
    if valid := labelled.get("valid"):
        both = zip(train, valid, strict=True)
        train = Split(*(np.concatenate(pair) for pair in both))
    if not (len(train.labels) and len(test.labels)):
        raise BadInput("The data has no images for training, or none for the test.")
    return train, test


def files(train: Split, test: Split) -> Files:
    """Return the content of the four IDX files."""
    arrays = (train.images, train.labels, test.images, test.labels)
    return {
        name: idx.to_bytes(np.ascontiguousarray(values))
        for name, values in zip(idx.FILES, arrays, strict=True)
    }


def digests(contents: Files) -> dict[idx.FileName, str]:
    """Return the SHA-256 of each file."""
    return {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }


def _of_scikit_learn() -> tuple[Parts, list[str]]:
    from sklearn.datasets import load_digits  # noqa: PLC0415  # slow to import

    bunch = load_digits()
    return _parts({"train": (bunch.images, bunch.target)}, DIGITS, {})


def _of_arrays(
    path: Path, names: Mapping[SplitName, tuple[str, str]]
) -> tuple[Parts, list[str]]:
    if "train" not in names:
        raise BadInput("`download.bundle.arrays` names none for `train`.")
    arrays = npz.read(path, [name for pair in names.values() for name in pair])
    pairs = {part: (arrays[x], arrays[y]) for part, (x, y) in names.items()}
    called = {part: x for part, (x, _) in names.items()}
    return _parts(pairs, str(path), called)


def _of_idx(folder: Path) -> Parts:
    contents = fetch.local(folder, idx.FILES, npz.MAX_BYTES)
    arrays = {
        name: idx.parse(content, f"{name} of {folder}")
        for name, content in contents.items()
    }
    x_train, y_train, x_test, y_test = (arrays[name] for name in idx.FILES)
    pairs: Pairs = {"train": (x_train, y_train), "test": (x_test, y_test)}
    return _parts(pairs, str(folder), {"train": "train", "test": "t10k"})[0]


def _of_image_folder(folder: Path, image_spec: ImageSpec) -> Parts:
    from tasks.sources import image_folder  # noqa: PLC0415  # SciPy and Pillow, slow to import

    by_split = image_folder.find(folder)[0]
    parts: Parts = {}
    for name, image_files in by_split.items():
        images, labels, origins = image_folder.read(image_files, image_spec)
        parts[name] = Part(images, np.array(labels), origins)
    return parts


def _parts(
    pairs: Pairs,
    origin: str,
    called: Mapping[SplitName, str],
) -> tuple[Parts, list[str]]:
    """Return arrays of images and labels as parts, and what became of the pixels."""
    images, notes = grayscale.images(
        {name: x for name, (x, _) in pairs.items()}, origin
    )
    parts: Parts = {}
    for name, (_, y) in pairs.items():
        labels = _labels(y, len(images[name]), f"{called.get(name, name)} of {origin}")
        where = called.get(name, name)
        origins = [f"{where}[{row}]" for row in range(len(labels))]
        parts[name] = Part(images[name], labels, origins)
    return parts, notes


def _labels(values: Array, count: int, origin: str) -> Array:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind not in "iuU" or values.ndim != 1:
        raise BadInput(
            f"The labels of {origin} are {values.dtype} of shape {values.shape}; whole "
            "numbers or text are understood, one for each image."
        )
    if len(values) != count:
        raise BadInput(f"There are {len(values)} labels for {count} images ({origin}).")
    return values


def _indices(
    part: Part, labels: Sequence[int | str] | None, class_names: tuple[str, ...]
) -> Pixels:
    """Return labels as indices into `class_names`, uint8 (N,)."""
    text = part.labels.dtype.kind == "U"
    known = labels or (class_names if text else range(len(class_names)))
    index_of = {label: index for index, label in enumerate(known)}
    values, inverse = np.unique(part.labels, return_inverse=True)
    if unknown := [value for value in values.tolist() if value not in index_of]:
        raise BadInput(
            f"An image has the label {unknown[0]!r}, which is none of "
            "`download.bundle.labels`; run `python -m flows.new_dataset` again."
        )
    table = np.array([index_of[value] for value in values.tolist()], np.uint8)
    return table[inverse]


def _cut(train: Split, count: int | None) -> tuple[Split, Split]:
    """Return all but the last `count` images, and these."""
    if count is None:
        raise BadInput(
            "The data has no test images of its own; say by `download.bundle.test` in "
            "its dataset card how many are held out."
        )
    if count >= len(train.labels):
        raise BadInput(
            f"`download.bundle.test` is {count}, but there are only "
            f"{len(train.labels)} images; make it smaller."
        )
    return (
        Split(train.images[:-count], train.labels[:-count]),
        Split(train.images[-count:], train.labels[-count:]),
    )


def _refuse_conflicts(conflicts: list[tuple[tuple[Any, str], tuple[Any, str]]]) -> None:
    if conflicts:
        (label, origin), (other, where) = conflicts[0]
        raise BadInput(
            f"{len(conflicts)} images are of two classes at once, the first is "
            f"{label!r} as {origin} and {other!r} as {where}; remove the wrong ones."
        )
