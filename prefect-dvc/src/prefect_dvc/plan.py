"""What a run would do, stage by stage, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from prefect_dvc.tables import table

# How many changes of a stage fit into a line.
SHOWN = 2


class Action(StrEnum):
    """What a run would do with a stage.

    `RUN` is what is known before anything runs. A stage that reads the output of a
    stage that runs turns out to be unchanged if that output comes out the same.
    """

    UNCHANGED = "unchanged"
    RESTORE = "restore"
    RUN = "run"


@dataclass(frozen=True)
class Change:
    """One thing that differs from what dvc.lock records of a stage.

    Attributes:
        what: `dependency`, `parameter`, `output`, `command`, or `stage`.
        name: a path, or the key of a parameter; empty for a command or stage.
        how: for example `changed`, `missing`, `new`.
        old: what dvc.lock records: an MD5, a value, a command; None if nothing.
        new: what is there now; None if nothing.
    """

    what: str
    name: str
    how: str
    old: str | None = None
    new: str | None = None

    def __str__(self) -> str:
        subject = " ".join(filter(None, [self.what, self.name]))
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
class Plan(Sequence[PlannedStage]):
    """The stages that a run would visit, each after those it needs.

    `str(plan)` is a table.
    """

    stages: tuple[PlannedStage, ...]

    def stage(self, name: str) -> PlannedStage:
        """Return what is planned for stage `name`.

        Raises:
            KeyError: the plan does not include it.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def with_action(self, action: Action) -> list[PlannedStage]:
        """Return the stages with this action."""
        return [stage for stage in self.stages if stage.action is action]

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204  # int or slice, as for any sequence
        return self.stages[index]

    def __iter__(self) -> Iterator[PlannedStage]:
        return iter(self.stages)

    def __str__(self) -> str:
        return table(
            ["stage", "action", "last", "reason"],
            [
                [
                    stage.name,
                    stage.action.value,
                    f"{stage.last_seconds:.1f} s" if stage.last_seconds else "",
                    reason(stage.changes, SHOWN),
                ]
                for stage in self.stages
            ],
        )
