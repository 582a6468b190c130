"""The outcome of each stage of a run, and the events that a run reports meanwhile."""

from dataclasses import dataclass
from enum import StrEnum

from prefect_dvc.plan import StageList, table


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
        return self not in {Outcome.FAILED, Outcome.SKIPPED}


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

    @property
    def note(self) -> str:
        """The reason of a stage that is up to date, the message of any other."""
        return self.reason if self.outcome.up_to_date else self.message


@dataclass(frozen=True)
class RunResult(StageList[StageResult]):
    """The outcomes of all stages of a run; `str(result)` is a table.

    Attributes:
        errors_ignored: the run had the option `ignore_errors`.
    """

    errors_ignored: bool = False

    @property
    def ok(self) -> bool:
        """Whether every stage is up to date, or the run ignores errors."""
        return self.errors_ignored or all(stage.outcome.up_to_date for stage in self)

    @property
    def failed(self) -> list[StageResult]:
        """The stages that failed."""
        return [stage for stage in self if stage.outcome is Outcome.FAILED]

    @property
    def summary(self) -> str:
        """The run in one sentence: its failures, or how many stages ran."""
        if self.ok and not self.failed:
            ran = sum(stage.outcome is Outcome.RAN for stage in self)
            return f"Stages: {ran} ran, {len(self) - ran} Cached."
        names: dict[str, list[str]] = {}
        for stage in self.failed:
            names.setdefault(stage.message, []).append(stage.name)
        sentences = [
            f"{', '.join(stages)} failed: {message}"
            for message, stages in names.items()
        ]
        if skipped := sum(stage.outcome is Outcome.SKIPPED for stage in self):
            sentences.append(f"Stages skipped because of this: {skipped}.")
        return " ".join(sentences)

    def __str__(self) -> str:
        rows = [
            [
                stage.name,
                stage.outcome.value,
                f"{stage.seconds:.1f}" if stage.seconds else "",
                stage.note,
            ]
            for stage in self
        ]
        return table(["stage", "outcome", "seconds", "reason"], rows)


class Events:
    """Receives the events of a run; this class keeps only the outcomes.

    The methods are called from the stages' threads.
    """

    result: RunResult | None = None

    def started(self, name: str, reason: str) -> None:
        """Stage `name` starts to run its commands."""

    def printed(self, name: str, line: str) -> None:
        """A command of stage `name` printed a line."""

    def ended(self, result: StageResult) -> None:
        """A stage ended; a stage that is retried ends several times."""

    def finished(self, result: RunResult) -> None:
        """All stages have ended."""
        self.result = result
