"""The plan of a run: each stage, with its action and the reason."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

# How many changes of a stage fit into a line.
SHOWN = 2


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)


@dataclass(frozen=True)
class StageList(Sequence[T], Generic[T]):
    """Stages in the order of the graph: the base of a plan and of a result."""

    stages: tuple[T, ...]

    def stage(self, name: str) -> T:
        """Return the entry of stage `name`.

        Raises:
            KeyError: no stage has this name.
        """
        return {stage.name: stage for stage in self.stages}[name]

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204  # int or slice, as for any sequence
        return self.stages[index]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns, the header first, without trailing spaces."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


class Action(StrEnum):
    """The action that a run would take for a stage.

    `RUN` is an estimate: after a stage has run, the stages that read its output are
    unchanged if the output is the same as before.
    """

    UNCHANGED = "unchanged"
    RESTORE = "restore"
    RUN = "run"


@dataclass(frozen=True)
class Change:
    """One difference between a stage and its record in dvc.lock.

    Attributes:
        what: `dependency`, `parameter`, `output`, `command`, or `stage`.
        name: a path, or the key of a parameter; empty for a command or stage.
        how: for example `changed`, `missing`, `new`.
        old: the recorded MD5, value or command; None if nothing is recorded.
        new: the current MD5, value or command; None if there is none.
    """

    what: str
    name: str
    how: str
    old: str | None = None
    new: str | None = None

    def __str__(self) -> str:
        subject = f"{self.what} {self.name}".strip()
        values = f" from {self.old} to {self.new}" if self.old and self.new else ""
        return f"{subject} {self.how}{values}"


def reason(changes: Sequence[Change], limit: int | None = None) -> str:
    """Return changes in one line; those beyond `limit` are only counted."""
    shown = [str(change) for change in changes[:limit]]
    if len(shown) < len(changes):
        shown.append(f"and {len(changes) - len(shown)} more")
    return "; ".join(shown)


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a plan.

    Attributes:
        name: the stage, as DVC addresses it.
        action: what a run would do.
        changes: every difference from dvc.lock; empty if the stage is unchanged.
        upstream: names of the stages whose outputs it reads.
        description: `desc` in dvc.yaml.
        commands: what a run would execute.
        last_seconds: how long its commands took the last time; None if unknown.
    """

    name: str
    action: Action
    changes: tuple[Change, ...]
    upstream: tuple[str, ...]
    description: str
    commands: tuple[str, ...]
    last_seconds: float | None

    @property
    def reason(self) -> str:
        """The changes in one line."""
        return reason(self.changes)

    def as_dict(self) -> dict[str, Any]:
        """Return the stage as JSON values."""
        return asdict(self) | {"reason": self.reason}


@dataclass(frozen=True)
class Plan(StageList[PlannedStage]):
    """The stages that a run would visit; `str(plan)` is a table."""

    def __str__(self) -> str:
        rows = [
            [
                stage.name,
                stage.action.value,
                f"{stage.last_seconds:.1f} s" if stage.last_seconds else "",
                reason(stage.changes, SHOWN),
            ]
            for stage in self
        ]
        return table(["stage", "action", "last", "reason"], rows)
