"""Read a folder of class-named folders of images.

`FOLDER/CLASS/*.png`, or `FOLDER/train/CLASS/*.png` beside `FOLDER/test/...` and
optionally `FOLDER/valid/...`. Images are in the order of their names on any machine.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.dataset.spec import ImageSpec
from tasks.dataset.splits import Floats, Pixels, SplitName
from tasks.imaging import preprocess
from tasks.imaging.segmentation import UnusableImage
from tasks.runtime.params import BadInput

SPLIT_FOLDERS: Mapping[str, SplitName] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# Images of one size up to this side were made for machine learning; they are unchanged.
SMALL = 64
# An image looks like ink on paper if these fractions of its edge and of all its pixels
# are within NEAR of the edge's median. A data set does if NEARLY all its images do.
EDGE, WHOLE, NEAR, NEARLY = 0.8, 0.5, 40, 0.9

Result = TypeVar("Result")


class ImageFile(NamedTuple):
    """An image file, and the name of its class."""

    path: Path
    label: str


class FolderSummary(NamedTuple):
    """Properties of all images of a folder; `on_paper`: they look like ink on paper."""

    shapes: set[tuple[int, int]]  # larger sides count as `preprocess.LONGEST`
    brightest: int
    on_paper: bool


Text = npt.NDArray[np.str_]
FilesBySplit = dict[SplitName, list[ImageFile]]


def find(folder: Path) -> tuple[FilesBySplit, int]:
    """Return the image files of `folder` by split, and the number of other files."""
    folders = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    by_name = {SPLIT_FOLDERS.get(path.name.lower()): path for path in folders}
    if "train" not in by_name or None in by_name:
        by_name = {"train": folder}
    by_split = {
        name: image_files
        for name, path in by_name.items()
        if name and (image_files := _image_files(path))
    }
    if not by_split:
        raise BadInput(
            f"{folder} has no images (PNG, JPEG, TIFF) in folders that are named after "
            "their class, nor the four IDX files."
        )
    every = (path for path in folder.rglob("*") if path.is_file())
    visible = [path for path in every if "/." not in f"/{path.relative_to(folder)}"]
    return by_split, len(visible) - sum(map(len, by_split.values()))


def summarize(by_split: FilesBySplit) -> FolderSummary:
    """Return what the images have in common; refuse all if one can't be read."""
    image_files = [file for files in by_split.values() for file in files]
    pages = _each_page(
        image_files, lambda page: (page.shape, int(page.max()), _on_paper(page))
    )
    shapes, brightest, on_paper = zip(*(page for _, page in pages), strict=True)
    return FolderSummary(
        set(shapes), max(brightest), sum(on_paper) >= NEARLY * len(on_paper)
    )


def read(
    image_files: list[ImageFile], image_spec: ImageSpec
) -> tuple[Pixels, Text, Text]:
    """Return images, uint8 (N, rows, columns), the class of each, and its path.

    An image that has the specified shape is unchanged, others are preprocessed. A blank
    image becomes zeros. All images are refused if one can't be used.
    """

    def to_spec(page: Floats) -> Pixels:
        if page.max() == page.min():
            return np.zeros(image_spec.shape, np.uint8)
        if page.shape == image_spec.shape and page.max() <= image_spec.brightest:
            return np.rint(page).astype(np.uint8)
        return preprocess.to_spec(page, image_spec)

    pages = _each_page(image_files, to_spec)
    labels = np.array([file.label for file, _ in pages])
    paths = np.array([str(file.path) for file, _ in pages])
    return np.stack([image for _, image in pages]), labels, paths


def _each_page(
    image_files: list[ImageFile], function: Callable[[Floats], Result]
) -> list[tuple[ImageFile, Result]]:
    """Return `function` of every page of every file; refuse all if one is unusable."""
    results, faults = [], []
    for file in image_files:
        try:
            results += [(file, function(page)) for page in preprocess.read(file.path)]
        except UnusableImage as fault:
            faults.append(f"{file.path}: {fault}")
    if faults:
        raise BadInput(
            f"{len(faults)} of {len(image_files)} images can't be used; the first is "
            f"{faults[0]}. Repair them, or move them out of the folder."
        )
    return results


def _on_paper(page: Floats) -> bool:
    """Return whether most pixels, and nearly all at the edge, have one intensity."""
    edge = np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]])
    near = abs(page - np.median(edge)) <= NEAR
    near_edge = abs(edge - np.median(edge)) <= NEAR
    return bool(near_edge.mean() >= EDGE and near.mean() >= WHOLE)


def _image_files(folder: Path) -> list[ImageFile]:
    return [
        ImageFile(path, path.parent.name)
        for path in sorted(folder.glob("[!.]*/[!.]*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
