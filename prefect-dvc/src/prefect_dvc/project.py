"""A DVC project, run as part of a Prefect flow."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import IO, Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.context import FlowRunContext

from prefect_dvc.commands import Commands, run_log
from prefect_dvc.cores import Cores, available_cores
from prefect_dvc.dvc_repo import DvcRepo, plan
from prefect_dvc.errors import ProjectBusy, ProjectError, RunFailed
from prefect_dvc.file_lock import try_lock
from prefect_dvc.forkserver import preloaded_modules
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Plan
from prefect_dvc.processes import Processes
from prefect_dvc.results import Events, Outcome, RunResult
from prefect_dvc.server import retry_connection
from prefect_dvc.stage_tasks import Hook, ProjectRun

LOCK_POLL_SECONDS = 0.2


class DvcProject:
    """A DVC project: a folder inside a DVC repository.

    Stages, targets and options have the names that they have for `dvc repro` in that
    folder; `RunOptions` lists the options. The methods raise `ProjectError` if DVC
    refuses the project or a target, and `ProjectBusy` if another run or DVC command is
    at work and `wait` is false.

    Args:
        folder: of the project, usually the one with dvc.yaml.
        jobs: how many stages run at a time; the number of cores if None.
        wait: whether to wait while another run or DVC command works in the project;
            otherwise fail at once.
    """

    def __init__(
        self, folder: Path | str = ".", *, jobs: int | None = None, wait: bool = True
    ) -> None:
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise ProjectError(f"{folder} is not a folder.")
        self.jobs = available_cores() if jobs is None else max(1, jobs)
        self.wait = wait
        self._hooks: list[tuple[str, Hook]] = []

    def plan(self, targets: Sequence[str] | str | None = None, **options: bool) -> Plan:
        """Return what a run would do and why; change nothing."""
        return plan(self.folder, RunOptions.of(targets, **options), wait=self.wait)

    def run(
        self,
        targets: Sequence[str] | str | None = None,
        *,
        raise_on_failure: bool = True,
        **options: bool,
    ) -> RunResult:
        """Run the stages in the current flow, or in a flow of their own.

        Raises:
            RunFailed: a stage failed, and `raise_on_failure` is true.
        """
        if FlowRunContext.get() is None:
            # Without the characters that Prefect refuses.
            name = re.sub(r"[/%&<>]", "-", self.folder.name) or "dvc"
            own_flow = flow(name=name)(self.run)
            return own_flow(targets, raise_on_failure=raise_on_failure, **options)
        with self.open(targets, events=None, **options) as run:
            run.submit_all()
            result = run.wait()
        if raise_on_failure and not result.ok:
            raise RunFailed(result)
        return result

    @contextmanager
    def open(
        self,
        targets: Sequence[str] | str | None = None,
        *,
        events: Events | None = None,
        **options: bool,
    ) -> Iterator[ProjectRun]:
        """Yield a run whose stages can be submitted beside other tasks of the flow.

        One run at a time works in a repository. The current directory is the project's
        folder meanwhile. Commands that still run at the end are stopped. `events`
        receives the events of the run.
        """
        chosen = RunOptions.of(targets, **options)
        with chdir(self.folder), Processes() as processes:
            processes.preload = preloaded_modules(self.folder)
            repo = DvcRepo(
                self.folder,
                chosen,
                wait=self.wait,
                pause=processes.pause,
                say=run_log().info,
            )
            with self.locked(pause=processes.pause):
                selected = repo.select()
                run = ProjectRun(
                    repo,
                    processes,
                    selected,
                    chosen,
                    jobs=self.jobs,
                    hooks=self._hooks,
                    events=events or Events(),
                )
                if chosen.pull and not chosen.no_run_cache:
                    repo.pull_run_cache()
                try:
                    yield run
                finally:
                    # None of our processes writes when the next run gets the lock.
                    processes.stop()
                    run.finish()
                try:
                    _publish(run.wait(), self.folder)
                except Exception as error:  # noqa: BLE001  # the stages are done
                    run_log().warning("The outcomes are not shown: %r", error)

    def on_stage(self, select: str = "*") -> Callable[[Hook], Hook]:
        """Decorate a function to be called with each `StageResult`, in its task.

        `select` is a pattern of stage names, such as `train@*`.
        """

        def register(hook: Hook) -> Hook:
            self._hooks.append((select, hook))
            return hook

        return register

    @contextmanager
    def commands(self, name: str) -> Iterator[Commands]:
        """Yield `Commands` for the task `name`, which needs no stage and no lock."""
        with Processes() as processes:
            yield Commands(name, processes, Cores(self.jobs, {}, {}))

    @property
    def running(self) -> bool:
        """Whether a run works in the project now."""
        with self._lock_file() as lock:
            return not try_lock(lock)

    @contextmanager
    def locked(
        self, *, pause: Callable[[float], object] = time.sleep
    ) -> Iterator[None]:
        """Keep runs out of the project, as a run does; `pause` sleeps while waiting."""
        # The kernel drops the lock if this process dies.
        with self._lock_file() as lock:
            said = False
            while not try_lock(lock):
                if not self.wait:
                    raise ProjectBusy(
                        f"Another run is at work in {self._root.name}; wait for it, or "
                        "run without --no-wait."
                    )
                if not said:
                    run_log().info("Waiting: another run is at work here.")
                    said = True
                pause(LOCK_POLL_SECONDS)
            yield

    @property
    def _root(self) -> Path:
        """The folder with `.dvc/`."""
        folders = (self.folder, *self.folder.parents)
        return next((f for f in folders if (f / ".dvc").is_dir()), self.folder)

    def _lock_file(self) -> IO[str]:
        path = self._root / ".dvc" / "tmp" / "flow.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")


@retry_connection
def _publish(result: RunResult, folder: Path) -> None:
    """Show the outcomes in the Prefect UI, as a table artifact."""
    rows: list[dict[str, Any]] = [
        {
            "stage": stage.name,
            "outcome": stage.outcome.value,
            "seconds": round(stage.seconds, 1) if stage.seconds else "",
            "reason": stage.note,
        }
        for stage in result
    ]
    if rows:
        ran = sum(stage.outcome is Outcome.RAN for stage in result)
        create_table_artifact(
            rows,
            key="dvc-stages",  # the UI groups the artifacts of one key into a history
            description=f"The stages of {folder.name}: {ran} of {len(result)} ran.",
        )
