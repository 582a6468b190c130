"""The specification of a dataset: shape of the images, names of the classes."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tasks.runtime.params import Settings

Side = Annotated[int, Field(ge=1, le=10_000)]  # of an image, in pixels
# Class names appear in tables, in pages and in the paths of images.
ClassName = Annotated[str, Field(pattern=r"^\w[\w .+-]{0,39}$")]
Title = Annotated[str, Field(pattern=r"^\w[\w .,:'()+-]{0,99}$")]


class ImageSpec(Settings):
    """The shape, the pixel range and the framing of the images that a model takes.

    Attributes:
        shape: rows and columns.
        brightest: the largest pixel value; the background is 0.
        box: side, in pixels, of the square that the foreground is scaled into before
            it is centred by its mass, as in MNIST; None: images are scaled whole.
    """

    shape: Annotated[tuple[Side, Side], Field(strict=False)]
    brightest: Annotated[int, Field(ge=1, le=255)]
    box: Side | None

    @model_validator(mode="after")
    def _box_fits(self) -> Self:
        if self.box is not None and self.box > min(self.shape):
            raise ValueError(f"a box of {self.box} does not fit into {self.shape}")
        return self


class DatasetSpec(Settings):
    """Section `images` of a dataset card.

    Attributes:
        title: the dataset's name and authors.
        form: the specification of every image.
        classes: names of the classes; a label is an index into this tuple.
    """

    title: Title
    form: ImageSpec
    classes: Annotated[
        tuple[ClassName, ...], Field(strict=False, min_length=2, max_length=256)
    ]

    @model_validator(mode="after")
    def _class_names_are_unique(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have the same name")
        return self
