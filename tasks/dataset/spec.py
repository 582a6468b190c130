"""What the images of a data set are, as data, models and reports have it in common."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tasks.runtime.params import Settings

Side = Annotated[int, Field(ge=1, le=10_000)]  # of an image, in pixels
# A class's name stands in tables, pages and paths of images.
ClassName = Annotated[str, Field(pattern=r"^\w[\w .+-]{0,39}$")]
Title = Annotated[str, Field(pattern=r"^\w[\w .,:'()+-]{0,99}$")]


class Form(Settings):
    """The form in which a model takes images.

    Attributes:
        shape: rows and columns.
        brightest: the largest value that a pixel can have; paper is 0.
        box: the side of the square, in pixels, that the ink of an image is scaled into
            before it is centred by its mass, as MNIST was made; None: images are scaled
            as a whole.
    """

    shape: Annotated[tuple[Side, Side], Field(strict=False)]
    brightest: Annotated[int, Field(ge=1, le=255)]
    box: Side | None

    @model_validator(mode="after")
    def _the_box_fits(self) -> Self:
        if self.box is not None and self.box > min(self.shape):
            raise ValueError(f"a box of {self.box} does not fit into {self.shape}")
        return self


class Kind(Settings):
    """Section `images` of a data sheet.

    Attributes:
        title: what the data is called, and by whom.
        form: of every image.
        classes: their names; the label of an image is a place in this list, from 0.
    """

    title: Title
    form: Form
    classes: Annotated[
        tuple[ClassName, ...], Field(strict=False, min_length=2, max_length=256)
    ]

    @model_validator(mode="after")
    def _a_class_has_one_place(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class stands there twice")
        return self
