"""What a run did: the outcome of each stage."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from prefect_dvc.tables import table


class Outcome(StrEnum):
    """How a stage ended."""

    UNCHANGED = "unchanged"
    RESTORED = "restored"
    RAN = "ran"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def up_to_date(self) -> bool:
        """Whether the stage's outputs are up to date now."""
        return self in {Outcome.UNCHANGED, Outcome.RESTORED, Outcome.RAN}


@dataclass(frozen=True)
class StageResult:
    """The outcome of one stage.

    Attributes:
        name: the stage, as DVC addresses it.
        outcome: how it ended.
        seconds: how long its commands ran; 0 if none did.
        message: one sentence: the last line of a failed command, for example.
        reason: why the stage ran or was restored; empty if it was unchanged.
    """

    name: str
    outcome: Outcome
    seconds: float
    message: str
    reason: str = ""


@dataclass(frozen=True)
class RunResult(Sequence[StageResult]):
    """The outcomes of all stages of a run, in the order of the graph.

    Attributes:
        stages: the outcomes.
        errors_ignored: the run had the option `ignore_errors`.
    """

    stages: tuple[StageResult, ...]
    errors_ignored: bool = False

    @property
    def ok(self) -> bool:
        """Whether every stage is up to date, or failures don't count."""
        return self.errors_ignored or all(
            stage.outcome.up_to_date for stage in self.stages
        )

    @property
    def failed(self) -> list[StageResult]:
        """The stages that failed."""
        return [stage for stage in self.stages if stage.outcome is Outcome.FAILED]

    @property
    def summary(self) -> str:
        """The run in one sentence: its failures, or how many stages ran."""
        if self.ok and not self.failed:
            ran = sum(stage.outcome is Outcome.RAN for stage in self.stages)
            return f"Stages: {ran} ran, {len(self.stages) - ran} Cached."
        skipped = sum(stage.outcome is Outcome.SKIPPED for stage in self.stages)
        names: dict[str, list[str]] = {}
        for stage in self.failed:
            names.setdefault(stage.message, []).append(stage.name)
        reasons = [
            f"{', '.join(stages)} failed: {message}"
            for message, stages in names.items()
        ]
        rest = [f"Stages skipped because of this: {skipped}."] if skipped else []
        return " ".join([*reasons, *rest])

    def stage(self, name: str) -> StageResult:
        """Return the outcome of stage `name`.

        Raises:
            KeyError: the run did not include it.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def __len__(self) -> int:
        return len(self.stages)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204  # int or slice, as for any sequence
        return self.stages[index]

    def __iter__(self) -> Iterator[StageResult]:
        return iter(self.stages)

    def __str__(self) -> str:
        return table(
            ["stage", "outcome", "seconds", "reason"],
            [
                [
                    stage.name,
                    stage.outcome.value,
                    f"{stage.seconds:.1f}" if stage.seconds else "",
                    stage.message if not stage.outcome.up_to_date else stage.reason,
                ]
                for stage in self.stages
            ],
        )
