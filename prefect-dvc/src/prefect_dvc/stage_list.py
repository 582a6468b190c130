"""A sequence of stages that prints as a table: the base of a plan and of a result."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


@dataclass(frozen=True)
class StageList(Sequence[T], Generic[T]):
    """Stages in the order of the graph.

    Attributes:
        stages: one entry for each stage.
    """

    stages: tuple[T, ...]

    def stage(self, name: str) -> T:
        """Return the entry of stage `name`.

        Raises:
            KeyError: there is no such stage.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204  # int or slice, as for any sequence
        return self.stages[index]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns, the header first, without trailing spaces."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
