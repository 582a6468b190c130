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

from prefect_dvc.commands import Commands
from prefect_dvc.cores import Cores, available_cores
from prefect_dvc.dvc_repo import DvcRepo
from prefect_dvc.errors import ProjectBusy, RunFailed
from prefect_dvc.events import Events
from prefect_dvc.file_lock import try_lock
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Plan
from prefect_dvc.planning import plan, project_root
from prefect_dvc.preload import preloaded_modules
from prefect_dvc.processes import Processes
from prefect_dvc.results import Outcome, RunResult
from prefect_dvc.run_log import run_log
from prefect_dvc.server import retry_connection
from prefect_dvc.stage_tasks import Hook, ProjectRun

LOCK_POLL_SECONDS = 0.2
# The Prefect UI groups the artifacts of one key into a history.
ARTIFACT_KEY = "dvc-stages"


class DvcProject:
    """A DVC project: a folder inside a DVC repository.

    Stages are named and targets are understood as by `dvc repro` in that folder.

    Args:
        folder: of the project, usually the one with dvc.yaml.
        jobs: how many stages run at a time; the number of cores if None.
        wait: whether to wait while another run or DVC command works in the project;
            otherwise fail at once.
    """

    def __init__(
        self, folder: Path | str = ".", *, jobs: int | None = None, wait: bool = True
    ) -> None:
        self.folder = project_root(Path(folder))
        self.jobs = available_cores() if jobs is None else max(1, jobs)
        self.wait = wait
        self._hooks: list[tuple[str, Hook]] = []

    def plan(self, targets: Sequence[str] | str | None = None, **options: bool) -> Plan:
        """Return what a run would do and why; change nothing.

        Args:
            targets: as for `dvc repro`.
            options: see `RunOptions`.

        Raises:
            ProjectBusy: another DVC command is at work, and `wait` is false.
            ProjectError: DVC refuses the project or a target.
        """
        return plan(self.folder, RunOptions.of(targets, **options), wait=self.wait)

    def run(
        self,
        targets: Sequence[str] | str | None = None,
        *,
        raise_on_failure: bool = True,
        **options: bool,
    ) -> RunResult:
        """Run the stages in the current flow, or in a flow of their own.

        Args:
            targets: as for `dvc repro`.
            raise_on_failure: raise if a stage fails; otherwise look at the result.
            options: see `RunOptions`.

        Raises:
            RunFailed: a stage failed.
            ProjectBusy: another run is at work, and `wait` is false.
            ProjectError: DVC refuses the project or a target.
        """
        if FlowRunContext.get() is None:
            own_flow = flow(name=_flow_name(self.folder))(self.run)
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
        folder meanwhile. Whatever still runs at the end is stopped.

        Args:
            targets: as for `dvc repro`.
            events: is told what happens, while it does.
            options: see `RunOptions`.

        Raises:
            ProjectBusy: another run is at work, and `wait` is false.
            ProjectError: DVC refuses the project or a target.
        """
        chosen = RunOptions.of(targets, **options)
        with chdir(self.folder), Processes() as processes:
            if modules := preloaded_modules(self.folder):
                processes.preload = modules
            repo = DvcRepo(
                self.folder,
                chosen,
                wait=self.wait,
                pause=processes.pause,
                say=run_log().info,
            )
            with self._locked(repo.root, processes.pause):
                selected = repo.select()
                run = ProjectRun(
                    repo,
                    processes,
                    selected,
                    chosen,
                    jobs=self.jobs,
                    hooks=self._hooks,
                    events=events,
                )
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

        Args:
            select: a pattern of stage names, such as `train@*`.
        """

        def register(hook: Hook) -> Hook:
            self._hooks.append((select, hook))
            return hook

        return register

    @contextmanager
    def commands(self, name: str) -> Iterator[Commands]:
        """Yield `Commands` for a task that needs no stage and no lock.

        Args:
            name: of the task.
        """
        with Processes() as processes:
            yield Commands(name, processes, Cores(self.jobs, {}, {}))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep runs out of the project, as a run does.

        Raises:
            ProjectBusy: a run is at work, and `wait` is false.
        """
        with self._locked(self._root(), time.sleep):
            yield

    @property
    def running(self) -> bool:
        """Whether a run works in the project now."""
        with _lock_file(self._root()) as lock:
            return not try_lock(lock)

    def _root(self) -> Path:
        """Return the folder with `.dvc/`."""
        for folder in (self.folder, *self.folder.parents):
            if (folder / ".dvc").is_dir():
                return folder
        return self.folder

    @contextmanager
    def _locked(self, root: Path, pause: Callable[[float], object]) -> Iterator[None]:
        """Hold the kernel's lock on the repository."""
        with _lock_file(root) as lock:
            said = False
            while not try_lock(lock):
                if not self.wait:
                    raise ProjectBusy(
                        f"Another run is at work in {root.name}; wait for it, or run "
                        "without --no-wait."
                    )
                if not said:
                    run_log().info("Waiting: another run is at work here.")
                    said = True
                pause(LOCK_POLL_SECONDS)
            yield


def _flow_name(folder: Path) -> str:
    """Return the folder's name without the characters that Prefect refuses."""
    return re.sub(r"[/%&<>]", "-", folder.name) or "dvc"


def _lock_file(root: Path) -> IO[str]:
    path = root / ".dvc" / "tmp" / "flow.lock"
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
            "reason": stage.reason if stage.outcome.up_to_date else stage.message,
        }
        for stage in result
    ]
    if rows:
        ran = sum(stage.outcome is Outcome.RAN for stage in result)
        create_table_artifact(
            rows,
            key=ARTIFACT_KEY,
            description=f"The stages of {folder.name}: {ran} of {len(result)} ran.",
        )
