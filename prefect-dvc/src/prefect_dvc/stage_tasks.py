"""Run the stages of a project as Prefect tasks: one task per stage.

A stage's task has the stage's name; its description and settings come from dvc.yaml
(`desc` and `meta.prefect`), its edges from DVC's graph. An unchanged stage ends in the
state Cached.
"""

import fnmatch
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prefect import Task, allow_failure
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import task_run
from prefect.states import Cancelled, Completed, Failed

from prefect_dvc import history
from prefect_dvc.commands import Commands, Listener, run_log
from prefect_dvc.cores import Cores
from prefect_dvc.dvc_repo import DvcRepo
from prefect_dvc.errors import (
    CommandFailed,
    ProjectError,
    Stopped,
    TimedOut,
    describe_system_error,
)
from prefect_dvc.options import RunOptions
from prefect_dvc.processes import Processes, environment
from prefect_dvc.reproduction import OpenStage
from prefect_dvc.results import Events, Outcome, RunResult, StageResult
from prefect_dvc.selection import SelectedStage
from prefect_dvc.stage_options import StageOptions

UNAVAILABLE = "Unavailable"  # the state of a task that runs again

Hook = Callable[[StageResult], object]
Ended = tuple[StageResult, State[Any]]


class ProjectRun:
    """A run of a project inside the current flow; `DvcProject.open` makes one.

    `run["train"]` is the Prefect future of a submitted stage.
    """

    def __init__(
        self,
        repo: DvcRepo,
        processes: Processes,
        selected: Mapping[str, SelectedStage],
        options: RunOptions,
        *,
        jobs: int,
        hooks: Sequence[tuple[str, Hook]],
        events: Events,
    ) -> None:
        self._repo = repo
        self._processes = processes
        self._selected = selected
        self._options = options
        self._stage_options = {
            name: StageOptions.of(name, stage.meta) for name, stage in selected.items()
        }
        self._cores = Cores(
            jobs,
            {name: stage.upstream for name, stage in selected.items()},
            history.read(repo.root),
        )
        self._hooks = hooks
        self._events = events
        self._stages: dict[str, PrefectFuture[Any]] = {}
        self._others: list[PrefectFuture[Any]] = []
        self._results: dict[str, StageResult] = {}
        self._reproduced: set[str] = set()
        self._forced: set[str] = set()
        self._failed: str | None = None

    def __contains__(self, name: object) -> bool:
        """Whether the run visits stage `name`."""
        return name in self._selected

    def __getitem__(self, name: str) -> PrefectFuture[Any]:
        return self._stages[name]

    @property
    def names(self) -> list[str]:
        """The stages that the run visits, each after those it needs."""
        return list(self._selected)

    def submit_all(self) -> None:
        """Submit every stage as a task, after the tasks of the stages it needs."""
        for name in self._selected:
            self._submit(name)

    def after(
        self,
        upstream: str | Sequence[str] | None,
        name: str,
        body: Callable[[Commands], Any],
        *,
        description: str | None = None,
        retry_delay_seconds: Sequence[float] = (),
    ) -> PrefectFuture[Any]:
        """Submit a task that is not a stage, once the stages `upstream` have ended.

        Args:
            upstream: one or several submitted stages, or None for all; the task does
                not run if one of them fails.
            name: the task's name.
            body: called in the task with `Commands` to run commands; returns the task's
                result or a Prefect state. A state named `Unavailable` makes the task
                run again.
            description: the task's description in the Prefect UI.
            retry_delay_seconds: pauses before the second, third, ... attempt.
        """
        if upstream is None:
            upstream = list(self._stages)
        needed = [upstream] if isinstance(upstream, str) else upstream
        commands = Commands(name, self._processes, self._cores)
        task = _task(
            lambda: body(commands),
            name,
            name,
            description=description,
            retries=len(retry_delay_seconds),
            retry_delay_seconds=list(retry_delay_seconds) or None,
        )
        future: PrefectFuture[Any] = task.submit(
            wait_for=[self._stages[stage] for stage in needed], return_state=False
        )
        self._others.append(future)
        return future

    def wait(self) -> RunResult:
        """Wait for all submitted stages; return their outcomes."""
        for future in self._stages.values():
            future.wait()
        return RunResult(
            tuple(self._result(name, future) for name, future in self._stages.items()),
            errors_ignored=self._options.ignore_errors,
        )

    def finish(self) -> None:
        """Wait for every task of the run; record how long the stages took."""
        for future in (*self._stages.values(), *self._others):
            future.wait()
        seconds = {name: result.seconds for name, result in self._results.items()}
        history.write(self._repo.root, seconds)

    def _submit(self, name: str) -> None:
        options, stage = self._stage_options[name], self._selected[name]
        task = _task(
            self._run,
            name.partition("@")[0],
            name,
            description=stage.description,
            tags=options.tags,
            retries=options.retries,
            retry_delay_seconds=options.retry_delay_seconds or None,
        )
        needed: list[Any] = [self._stages[up] for up in stage.upstream]
        if self._options.ignores_upstream:
            needed = list(map(allow_failure, needed))
        needed += [allow_failure(self._stages[up]) for up in stage.after]
        self._stages[name] = task.submit(name, wait_for=needed, return_state=False)

    def _run(self, name: str) -> State[Any]:
        """Run one stage, as the body of its task."""
        result, state = self._attempt(name)
        self._results[name] = result
        if result.outcome.up_to_date:
            self._cores.ended(name)
        elif result.outcome is Outcome.FAILED and not (
            state.name == UNAVAILABLE
            and task_run.run_count <= self._stage_options[name].retries
        ):
            self._failed = self._failed or name
            if self._options.ignores_upstream:
                self._cores.ended(name)
        if self._options.force_downstream and name in self._reproduced | self._forced:
            self._forced.update(self._selected[name].feeds)
        self._events.ended(result)
        self._call_hooks(result)
        return state

    def _attempt(self, name: str) -> Ended:  # noqa: PLR0911  # one for each kind of end
        try:
            self._processes.pause(0)
            if skipped := self._skipped(name):
                return skipped
            if not self._repo.must_run(name, force=name in self._forced):
                return self._bring_up_to_date(name)
            # Waits for cores first: opening a stage removes its outputs.
            cores = self._stage_options[name].cores
            with self._cores.held(name, cores, pause=self._processes.pause):
                return self._skipped(name) or self._bring_up_to_date(name)
        except CommandFailed as failure:
            retry = failure.status == os.EX_TEMPFAIL
            return _failed(name, failure.reason, UNAVAILABLE if retry else "Failed")
        except TimedOut as failure:
            return _failed(name, f"{name} {failure}.", "TimedOut")
        except Stopped:
            return _failed(name, f"{name} was stopped with the flow.", "Stopped")
        except ProjectError as error:
            return _failed(name, str(error))
        except OSError as error:
            return _failed(name, describe_system_error(error))

    def _skipped(self, name: str) -> Ended | None:
        """Return the end of a stage that does not start, because another one failed."""
        if self._failed is None or self._options.goes_on:
            return None
        message = f"Not started, because {self._failed} failed."
        result = StageResult(name, Outcome.SKIPPED, 0, message)
        return result, Cancelled(name="Skipped", message=message)

    def _bring_up_to_date(self, name: str) -> Ended:
        with self._repo.opened(name, force=name in self._forced) as stage:
            if stage.outcome is None:
                ended = self._execute(name, stage)
            else:
                message = f"{name}: {stage.message}"
                result = StageResult(name, stage.outcome, 0, message, stage.reason)
                state = "Completed" if stage.outcome is Outcome.RAN else "Cached"
                ended = result, Completed(name=state, message=message)
            if stage.reproduced:
                self._reproduced.add(name)
            return ended

    def _execute(self, name: str, stage: OpenStage) -> Ended:
        log, listener = run_log(), Listener(name)
        process = stage.process | {"env": environment(stage.process["env"])}
        limit = self._stage_options[name].timeout_seconds

        def on_line(line: str) -> None:
            self._events.printed(name, line)
            listener(line)

        log.info("%s runs: %s", name, stage.reason)
        self._events.started(name, stage.reason)
        started = time.monotonic()
        for command in stage.commands:
            # The shell's last argument is the command in dvc.yaml.
            log.info("Running %s", command[-1])
            self._processes.run(command, process, on_line, limit)
        stage.record()
        seconds = time.monotonic() - started
        message = f"{name} ran in {seconds:.1f} s"
        result = StageResult(name, Outcome.RAN, seconds, message, stage.reason)
        return result, Completed(message=message)

    def _call_hooks(self, result: StageResult) -> None:
        for pattern, hook in self._hooks:
            try:
                if fnmatch.fnmatchcase(result.name, pattern):
                    hook(result)
            except Exception:  # noqa: BLE001  # a user's code may raise anything
                run_log().exception(
                    "The hook %r failed; the stage's outcome stays as it is.", hook
                )

    def _result(self, name: str, future: PrefectFuture[Any]) -> StageResult:
        """Return a stage's outcome, also if its task never started."""
        if result := self._results.get(name):
            return result
        if future.state.name == "NotReady":
            return StageResult(name, Outcome.SKIPPED, 0, "A stage it needs failed.")
        message = str(future.state.message or future.state.name)
        return StageResult(name, Outcome.FAILED, 0, message)


def _task(
    body: Callable[..., Any], name: str, run_name: str, **settings: Any
) -> Task[..., Any]:
    return Task(
        body,
        name=name,
        task_run_name=run_name.replace("{", "{{").replace("}", "}}"),
        retry_condition_fn=_is_unavailable,
        # DVC alone decides what is unchanged: Prefect's cache does not notice that an
        # output was deleted or corrupted.
        cache_policy=NO_CACHE,
        persist_result=False,
        **settings,
    )


def _failed(name: str, message: str, state: str = "Failed") -> Ended:
    result = StageResult(name, Outcome.FAILED, 0, message)
    return result, Failed(name=state, message=message)


def _is_unavailable(_task: object, _run: object, state: State[Any]) -> bool:
    return state.name == UNAVAILABLE
