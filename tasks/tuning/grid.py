"""The grid of a sweep: variants x learning rates x batch sizes x seeds.

`flows.sweep` writes its points to `experiments/sweep/points.yaml`; DVC makes a stage
for each of them.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, NonNegativeInt, PositiveFloat, RootModel, ValidationError

from tasks.runtime import files, params
from tasks.runtime.params import BadInput, Count, Settings, Word
from tasks.training.settings import Train

# By default, each variant's own learning rate is multiplied by these.
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
SEEDS = 3
MAX_POINTS = 300  # DVC rewrites dvc.lock after each; with 300 it takes 15 minutes


class Point(Settings):
    """The settings of one training."""

    variant: Word
    learning_rate: PositiveFloat
    batch_size: Count
    seed: NonNegativeInt

    @property
    def name(self) -> str:
        """The name of its DVC stage and of its file."""
        return f"{self.variant}-{self.learning_rate:g}-{self.batch_size}-{self.seed}"


class Points(RootModel[dict[str, Point]]):
    """`points` in points.yaml: every training by name."""


class Grid(Settings):
    """The settings to try, with the seeds 0, 1, ...

    By default, all variants with their own batch size, and with their own learning rate
    times each of `FACTORS`.
    """

    variants: Annotated[tuple[Word, ...], Field(strict=False)] = ()
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(strict=False)] = ()
    batch_sizes: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    seeds: Annotated[int, Field(ge=1)] = SEEDS

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """Return the grid of the command's options, or raise BadInput."""
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            fault = error.errors()[0]
            name = str(fault["loc"][0]).replace("_", "-")
            raise BadInput(
                f"`--{name}` is {fault['input']!r}, but {fault['msg'].lower()}."
            ) from None

    def points(self, train: Train) -> list[Point]:
        """Return every training; the seeds of one setting follow each other.

        Raises:
            BadInput: a variant is unknown, or there are too many trainings.
        """
        points = []
        for name in dict.fromkeys(self.variants or train.variants):
            own = train.resolve(name)
            default = [own.learning_rate * factor for factor in FACTORS]
            # 0.1 * 3 is not 0.3; six digits are enough, and make unique names.
            rates = {float(f"{r:.6g}") for r in self.learning_rates or default}
            points += [
                Point(variant=name, learning_rate=rate, batch_size=size, seed=seed)
                for rate, size, seed in itertools.product(
                    sorted(rates),
                    sorted(set(self.batch_sizes or [own.batch_size])),
                    range(self.seeds),
                )
            ]
        if len(points) > MAX_POINTS:
            raise BadInput(
                f"The sweep has {len(points):,} trainings, more than {MAX_POINTS:,}; "
                "try fewer settings or seeds."
            )
        return points


def write(path: Path, points: list[Point]) -> None:
    """Write `points` to the YAML file at `path`."""
    content = {"points": {point.name: point.model_dump() for point in points}}
    files.write_text(path, yaml.safe_dump(content, sort_keys=False))


def read(path: Path) -> dict[str, Point]:
    """Return the points in the YAML file at `path`, by name."""
    return params.load("points", Points, path).root
