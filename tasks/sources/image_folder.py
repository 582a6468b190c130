"""A folder of class-named folders of images, as photographs and scans are often kept.

`FOLDER/CLASS/*.png`, or `FOLDER/train/CLASS/*.png` beside `FOLDER/test/...` and, if
there is one, `FOLDER/valid/...`. Order is that of the names, on any machine.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.dataset.spec import ImageSpec
from tasks.dataset.splits import Floats, Pixels, SplitName
from tasks.imaging import preprocess
from tasks.imaging.segmentation import Unusable
from tasks.runtime.params import BadInput

PARTS: Mapping[str, SplitName] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# Images this small, all of one size, were made to be learned from: as they are.
SMALL = 64
# Ink on paper: along the edge of nearly every image this share of the pixels, and of
# the whole image that share, is within so much of one grey.
EDGE, WHOLE, NEAR, NEARLY = 0.8, 0.5, 40, 0.9


class ImageFile(NamedTuple):
    """An image file, and the name of its class."""

    path: Path
    label: str


class FolderSummary(NamedTuple):
    """What all images of a folder have in common.

    Attributes:
        shapes: every (rows, columns) found; sides above `preprocess.LONGEST` count as
            that.
        brightest: the largest value of a pixel.
        on_paper: they look like ink on paper.
    """

    shapes: set[tuple[int, int]]
    brightest: int
    on_paper: bool


FilesBySplit = dict[SplitName, list[ImageFile]]


def find(folder: Path) -> tuple[FilesBySplit, int]:
    """Return the image files of `folder` by part, and how many others there are.

    Raises:
        BadInput: there are none in class-named folders.
    """
    inner = _folders(folder)
    by_part = {PARTS.get(each.name.lower()): each for each in inner}
    if "train" in by_part and None not in by_part:
        parts = {name: _image_files(each) for name, each in by_part.items() if name}
    else:
        parts = {"train": _image_files(folder)}
    count = sum(len(image_files) for image_files in parts.values())
    if not count:
        raise BadInput(
            f"{folder} has no images (PNG, JPEG, TIFF) in folders that are named after "
            "their class, nor the four IDX files."
        )
    every = sum(
        path.is_file() and not _hidden(path, folder) for path in folder.rglob("*")
    )
    return {
        name: image_files for name, image_files in parts.items() if image_files
    }, every - count


def summarize(by_split: FilesBySplit) -> FolderSummary:
    """Return what all images have in common.

    Raises:
        BadInput: an image can't be read.
    """
    shapes: set[tuple[int, int]] = set()
    brightest, papers = 0, []
    for _, page in _pages(
        [one for image_files in by_split.values() for one in image_files]
    ):
        shapes.add((page.shape[0], page.shape[1]))
        brightest = max(brightest, int(page.max()))
        papers.append(_on_paper(page))
    return FolderSummary(shapes, brightest, sum(papers) >= NEARLY * len(papers))


def read(
    image_files: list[ImageFile], image_spec: ImageSpec
) -> tuple[Pixels, list[str], list[str]]:
    """Return images, uint8 (N, rows, columns), the class of each, and its file.

    An image of the right shape is taken as it is, another is preprocessed; one that is
    blank becomes zeros.

    Raises:
        BadInput: an image can't be used; the first is named.
    """
    images, labels, origins = [], [], []
    faults: list[str] = []
    for (path, label), page in _pages(image_files):
        try:
            images.append(_image(page, image_spec))
        except Unusable as fault:
            faults.append(f"{path}: {fault}")
            continue
        labels.append(label)
        origins.append(str(path))
    _refuse(faults, len(image_files))
    return np.stack(images), labels, origins


def _image(page: Floats, image_spec: ImageSpec) -> Pixels:
    if page.max() == page.min():
        return np.zeros(image_spec.shape, np.uint8)
    if page.shape == image_spec.shape and page.max() <= image_spec.brightest:
        return np.rint(page).astype(np.uint8)
    return preprocess.to_spec(page, image_spec)


def _pages(image_files: list[ImageFile]) -> Iterator[tuple[ImageFile, Floats]]:
    """Yield every page of every file, and refuse at the end what can't be read."""
    faults = []
    for one in image_files:
        try:
            for page in preprocess.read(one.path):
                yield one, page
        except Unusable as fault:
            faults.append(f"{one.path}: {fault}")
    _refuse(faults, len(image_files))


def _refuse(faults: list[str], count: int) -> None:
    if faults:
        raise BadInput(
            f"{len(faults)} of {count} images can't be used, the first is {faults[0]}; "
            "mend them, or move them out of the folder."
        )


def _on_paper(page: Floats) -> bool:
    """Return whether most of the image, and nearly all of its edge, is of one grey."""
    edge = np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]])
    paper = np.median(edge)
    return bool(
        (abs(edge - paper) <= NEAR).mean() >= EDGE
        and (abs(page - paper) <= NEAR).mean() >= WHOLE
    )


def _image_files(folder: Path) -> list[ImageFile]:
    return [
        ImageFile(path, each.name)
        for each in _folders(folder)
        for path in sorted(each.iterdir())
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not path.name.startswith(".")
    ]


def _folders(folder: Path) -> list[Path]:
    return sorted(
        each
        for each in folder.iterdir()
        if each.is_dir() and not each.name.startswith(".")
    )


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
