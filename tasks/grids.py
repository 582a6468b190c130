"""The trainings of a sweep: variants x learning rates x batch sizes x seeds."""

import argparse
import itertools
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Self

from pydantic import ConfigDict, Field, PositiveFloat, ValidationError

from tasks.runtime import params
from tasks.runtime.params import BadInput, Count, Settings, Word

# A variant's own learning rate, and what it is multiplied with.
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
SEEDS = 3
MOST = 10_000


class Point(NamedTuple):
    """One training."""

    variant: str
    learning_rate: float
    batch_size: int
    seed: int

    def __str__(self) -> str:
        """Return what a person calls it."""
        return (
            f"{self.variant}, rate {self.learning_rate:g}, batches of "
            f"{self.batch_size}, seed {self.seed}"
        )

    @property
    def changes(self) -> dict[str, Any]:
        """What is other than in params.yaml, or may be."""
        return {"learning_rate": self.learning_rate, "batch_size": self.batch_size}


class Own(Settings):
    """What matters here of a variant in params.yaml."""

    model_config = ConfigDict(extra="ignore")

    update: str
    learning_rate: PositiveFloat
    batch_size: Count | None = None


class Train(Settings):
    """What matters here of section `train` of params.yaml."""

    model_config = ConfigDict(extra="ignore")

    batch_size: Count
    variants: Annotated[dict[Word, Own], Field(min_length=1)]


class Grid(Settings):
    """What is asked for; what is left empty is taken from params.yaml.

    Attributes:
        variants: names of variants; empty: all of them.
        learning_rates: empty: each variant's own, times each of `FACTORS`.
        batch_sizes: empty: each variant's own.
        seeds: how many, from 0 up.
    """

    variants: Annotated[tuple[Word, ...], Field(strict=False)] = ()
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(strict=False)] = ()
    batch_sizes: Annotated[tuple[Count, ...], Field(strict=False)] = ()
    seeds: Annotated[int, Field(ge=1)] = SEEDS

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Self:
        """Return the grid that somebody asked for.

        Raises:
            BadInput: a value is none that it can have.
        """
        try:
            return cls.model_validate(asked)
        except ValidationError as error:
            fault = error.errors()[0]
            name = str(fault["loc"][0]).replace("_", "-")
            raise BadInput(
                f"`--{name}` has {fault['input']!r}, but {fault['msg'].lower()}."
            ) from None

    def points(self) -> list[Point]:
        """Return every training, the seeds of one beside each other.

        Raises:
            BadInput: there is no such variant, or there are too many trainings.
        """
        train = params.load("train", Train)
        if strange := [name for name in self.variants if name not in train.variants]:
            raise BadInput(
                f"`train.variants` in params.yaml has no {strange[0]!r}; it has "
                f"{', '.join(train.variants)}."
            )
        points = [
            Point(name, rate, size, seed)
            for name in dict.fromkeys(self.variants or train.variants)
            for rate, size, seed in itertools.product(
                self._rates(train.variants[name]),
                self._sizes(train, name),
                range(self.seeds),
            )
        ]
        if len(points) > MOST:
            raise BadInput(
                f"These are {len(points):,} trainings, and {MOST:,} are the most; "
                "ask for less."
            )
        return points

    def _rates(self, own: Own) -> list[float]:
        asked = self.learning_rates or (own.learning_rate * f for f in FACTORS)
        # 0.1 * 3 is not 0.3; nobody means more than six digits.
        return sorted({float(f"{rate:.6g}") for rate in asked})

    def _sizes(self, train: Train, name: str) -> list[int]:
        own = train.variants[name].batch_size or train.batch_size
        return sorted(set(self.batch_sizes)) or [own]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command be asked for a grid."""
    parser.add_argument("--variants", nargs="+", metavar="NAME", default=[])
    parser.add_argument(
        "--learning-rates", nargs="+", type=float, metavar="RATE", default=[]
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, metavar="N", default=[])
    parser.add_argument("--seeds", type=int, metavar="N", default=SEEDS)
