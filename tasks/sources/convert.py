"""Convert a dataset in another format into the four IDX files.

A source is `sklearn:digits`, an `.npz` file, a folder of class-named folders of images,
or a folder of four IDX files that need shuffling. The result depends only on the source
and the `Conversion`, so the dataset card can pin its hashes.
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
# An image that is in several splits stays in the first of these.
PRECEDENCE: tuple[SplitName, ...] = ("test", "valid", "train")

Array = npt.NDArray[Any]
Pairs = Mapping[SplitName, tuple[Array, Array]]  # images and labels
Names = Annotated[tuple[str, str], Field(strict=False)]  # of the two arrays
Label = int | str
Labels = Annotated[tuple[Label, ...], Field(strict=False, min_length=2, max_length=256)]


class Conversion(Settings):
    """`bundle` in the section `download`: how the source becomes the four files.

    Attributes:
        arrays: the names of the arrays of images and of labels in an `.npz` file, by
            split; None: inferred from their names.
        labels: the source's own labels, in the order of `images.classes`; None: 0, 1
            and so on, or the names in `images.classes`.
        seed: for shuffling the training images; None: no shuffling. If the images are
            sorted by class, the last of them are not a fair sample for validation.
        test: number of images held out for the test, from the end; None: the source
            has test images.
    """

    arrays: dict[SplitName, Names] | None = None
    labels: Labels | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    test: Count | None = None


class RawSplit(NamedTuple):
    """One split of the source, with its own labels."""

    images: Pixels  # (N, rows, columns)
    labels: Array  # whole numbers or text, (N,)
    origins: Array  # where each image is in the source, for errors


RawSplits = dict[SplitName, RawSplit]


def to_idx_files(
    source: str, conversion: Conversion, spec: DatasetSpec, sha256: Hashes
) -> tuple[Files, str]:
    """Return the content of the four IDX files, and notes on the conversion.

    Raises BadInput if the result has other hashes.
    """
    splits, notes = read(source, conversion.arrays, spec.form)
    splits, dropped = distinct(splits)
    contents = files(*split(splits, conversion, spec.classes))
    if digests(contents) != dict(sha256):
        raise BadInput(
            f"{source} does not match the hashes in its dataset card: the data or the "
            "preprocessing of its images has changed."
        )
    return contents, "; ".join([*notes, *dropped])


def read(
    source: str, arrays: npz.ArrayNames | None, image_spec: ImageSpec
) -> tuple[RawSplits, list[str]]:
    """Return the splits of the source, and notes on how its images became grayscale.

    Args:
        source: `sklearn:digits`, or the path of an `.npz` file or a folder.
        arrays: as in `Conversion`.
        image_spec: of the images that are made from class-named folders.
    """
    path = Path(source)
    if source == DIGITS:
        from sklearn.datasets import load_digits  # noqa: PLC0415  # slow to import

        digits = load_digits()
        return _from_arrays({"train": (digits.images, digits.target)}, source)
    if path.suffix == ".npz" and path.is_file():
        names = arrays or npz.infer_arrays(path)
        if "train" not in names:
            raise BadInput("`download.bundle.arrays` has no `train`; add it.")
        return _from_arrays(npz.read(path, names), source)
    if path.is_dir() and holds_idx(path):
        return _from_idx(path)
    if path.is_dir():
        from tasks.sources import image_folder  # noqa: PLC0415  # SciPy is slow to import

        by_split, _ = image_folder.find(path)
        return {
            name: RawSplit(*image_folder.read(image_files, image_spec))
            for name, image_files in by_split.items()
        }, []
    raise BadInput(f"{source} is neither a folder nor an .npz file, nor {DIGITS}.")


def holds_idx(folder: Path) -> bool:
    """Return whether the folder has one of the four IDX files, gzipped or not."""
    return any(
        (folder / f"{name}{end}").exists() for name in idx.FILES for end in ("", ".gz")
    )


def distinct(splits: RawSplits) -> tuple[RawSplits, list[str]]:
    """Drop blank and repeated images; return the splits, and notes on what was dropped.

    The first of equal images stays, so no test image is left in the training set. Equal
    images with different labels raise BadInput.
    """
    seen: dict[bytes, tuple[Label, str]] = {}
    rows: dict[SplitName, list[int]] = {name: [] for name in splits}
    blank, repeated, conflicts = 0, 0, []
    for name in sorted(splits, key=PRECEDENCE.index):
        images, labels, origins = splits[name]
        for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            current = label, str(origins[row])
            first = seen.setdefault(image.tobytes(), current)
            if image.max() == image.min():
                blank += 1
            elif first is current:
                rows[name].append(row)
            elif first[0] == label:
                repeated += 1
            else:
                conflicts.append(
                    f"{first[0]!r} in {first[1]} and {label!r} in {current[1]}"
                )
    if conflicts:
        raise BadInput(
            f"{len(conflicts)} images have two labels; the first is {conflicts[0]}. "
            "Remove the wrong ones."
        )
    notes = [f"{blank} blank images were dropped"] if blank else []
    notes += [f"{repeated} images that repeat others were dropped"] if repeated else []
    return {
        name: RawSplit(*(values[rows[name]] for values in raw))
        for name, raw in splits.items()
    }, notes


def split(
    splits: RawSplits, conversion: Conversion, class_names: tuple[str, ...]
) -> tuple[Split, Split]:
    """Return training and test images; validation images end the training images."""
    by_name = {
        name: Split(raw.images, _class_indices(raw, conversion.labels, class_names))
        for name, raw in splits.items()
    }
    train, test, count = by_name["train"], by_name.get("test"), conversion.test
    if conversion.seed is not None:
        # The hashes in the dataset card notice if NumPy ever shuffles differently.
        order = np.random.default_rng(conversion.seed).permutation(len(train.labels))
        train = Split(train.images[order], train.labels[order])
    if test and count:
        raise BadInput("The data has test images; remove `download.bundle.test`.")
    if not test:
        if not count or count >= len(train.labels):
            raise BadInput(
                "The data has no test images; set `download.bundle.test` in its card "
                f"to the number of its {len(train.labels)} images to hold out."
            )
        test = Split(train.images[-count:], train.labels[-count:])
        train = Split(train.images[:-count], train.labels[:-count])
    if valid := by_name.get("valid"):
        train = Split(*map(np.concatenate, zip(train, valid, strict=True)))
    if not (len(train.labels) and len(test.labels)):
        raise BadInput("The data has no images for training or for the test.")
    return train, test


def files(train: Split, test: Split) -> Files:
    """Return the content of the four IDX files."""
    return {
        name: idx.to_bytes(np.ascontiguousarray(values))
        for name, values in zip(idx.FILES, (*train, *test), strict=True)
    }


def digests(contents: Files) -> dict[idx.FileName, str]:
    """Return the SHA-256 of each file."""
    return {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }


def _from_idx(folder: Path) -> tuple[RawSplits, list[str]]:
    contents = fetch.local(folder, npz.MAX_BYTES)
    x_train, y_train, x_test, y_test = (
        idx.parse(contents[name], f"{name} of {folder}") for name in idx.FILES
    )
    pairs: Pairs = {"train": (x_train, y_train), "test": (x_test, y_test)}
    return _from_arrays(pairs, str(folder))


def _from_arrays(pairs: Pairs, source: str) -> tuple[RawSplits, list[str]]:
    """Return arrays of images and labels as splits, and notes on the conversion."""
    images, notes = grayscale.images(
        {name: x for name, (x, _) in pairs.items()}, source
    )
    splits: RawSplits = {}
    for name, (_, array) in pairs.items():
        labels = array[:, 0] if array.shape[1:] == (1,) else array
        count = len(images[name])
        if labels.dtype.kind not in "iuU" or labels.shape != (count,):
            raise BadInput(
                f"The {name} labels of {source} are {array.dtype} of shape "
                f"{array.shape}, not a whole number or text for each of {count} images."
            )
        origins = np.array([f"{name}[{row}]" for row in range(count)])
        splits[name] = RawSplit(images[name], labels, origins)
    return splits, notes


def _class_indices(
    raw: RawSplit, labels: Sequence[Label] | None, class_names: tuple[str, ...]
) -> Pixels:
    """Return labels as indices into `class_names`, uint8 (N,)."""
    is_text = raw.labels.dtype.kind == "U"
    known = labels or (class_names if is_text else range(len(class_names)))
    indices: dict[Label, int] = {label: index for index, label in enumerate(known)}
    values = raw.labels.tolist()
    if unknown := sorted(set(values) - indices.keys()):
        raise BadInput(
            f"An image has the label {unknown[0]!r}, which is not in "
            "`download.bundle.labels`; run `python -m flows.new_dataset` again."
        )
    return np.array([indices[value] for value in values], np.uint8)
