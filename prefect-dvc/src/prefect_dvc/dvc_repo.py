"""The adapter over DVC: select stages, find them unchanged, record their results.

It gives another engine the rules of `dvc repro`: a stage is unchanged, or its outputs
come from DVC's run cache, or its commands must run and their result is recorded in
dvc.lock. One check is added: a result is refused if a dependency changed while the
commands ran. The adapter does not use Prefect.
"""

import functools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from diskcache import Timeout
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.stage.cache import RunCacheNotSupported
from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable, prepare_kwargs
from dvc_data.hashfile.cache import DiskError

from prefect_dvc import history
from prefect_dvc.atomic_files import AtomicRwlock, repair_rwlock
from prefect_dvc.errors import (
    DependencyChanged,
    ProjectBusy,
    ProjectError,
    describe_error,
)
from prefect_dvc.loaded_stages import LoadedStages
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Plan
from prefect_dvc.reproduction import OpenStage, Reproduction, fingerprint, holder
from prefect_dvc.selection import SelectedStage, select
from prefect_dvc.simulation import FORCED, Planner

BUSY_POLL_SECONDS = 0.2

P = ParamSpec("P")
T = TypeVar("T")


def plan(folder: Path, options: RunOptions, *, wait: bool = True) -> Plan:
    """Return what a run of the project in `folder` would do; change nothing."""
    with chdir(folder):
        return DvcRepo(folder, options, wait=wait, pause=time.sleep).plan()


def _locked(
    method: Callable[Concatenate["DvcRepo", P], T],
) -> Callable[Concatenate["DvcRepo", P], T]:
    """Decorate a method to run with the repository locked and freshly read.

    While another DVC command is in the way, it is tried again, or raises `ProjectBusy`.
    """

    @functools.wraps(method)
    def with_lock(self: "DvcRepo", /, *args: P.args, **kwargs: P.kwargs) -> T:
        said = False
        while True:
            try:
                # One thread at a time, and no other DVC command.
                with (
                    self._mutex,
                    _as_project_errors(),
                    lock_repo(self._repo),
                    self._repo.scm_context(quiet=True),
                ):
                    return method(self, *args, **kwargs)
            except ProjectBusy as busy:
                # A frozen stage may read what another stage of this run writes.
                ours = f"(PID {os.getpid()}): {holder()}" in str(busy)
                if not ours and not self._wait:
                    raise
                if not ours and not said:
                    self._say(f"Waiting: {busy}")
                    said = True
                self._pause(BUSY_POLL_SECONDS)

    return with_lock


class DvcRepo:
    """The DVC repository around a folder; safe to use from several threads.

    The folder must be the current directory: DVC names stages as seen from there. Each
    method raises `ProjectError` if DVC refuses the project, a target or a stage, and
    `ProjectBusy` if another command holds what it needs and `wait` is false.

    Args:
        folder: inside a DVC repository.
        options: of the run.
        wait: whether to wait while another DVC command holds what a stage needs.
        pause: sleeps for some seconds between two tries; may raise to give up.
        say: called with the reason when a wait begins.
    """

    def __init__(
        self,
        folder: Path,
        options: RunOptions,
        *,
        wait: bool,
        pause: Callable[[float], object],
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        # DVC logs each change of dvc.lock at INFO; the caller reports on stages itself.
        logging.getLogger("dvc").setLevel(logging.WARNING)
        with _as_project_errors():
            root = Repo.find_root(str(folder))
            self._repo = Repo(root, fs=AtomicRwlock())
        self.root = Path(root)
        self._options = options
        self._stages = LoadedStages(self._repo)
        self._reproduction = Reproduction(self._repo, self._stages, options)
        self._mutex = threading.Lock()
        self._wait = wait
        self._pause = pause
        self._say = say

    @_locked
    def select(self) -> dict[str, SelectedStage]:
        """Return the stages that a run visits, in an order that respects the graph."""
        repair_rwlock(self._repo)
        return select(self._repo, self._options)

    @_locked
    def plan(self) -> Plan:
        """Return what a run would do; change nothing."""
        repair_rwlock(self._repo)
        selected = select(self._repo, self._options)
        planner = Planner(self._repo, self._options, history.read(self.root))
        # Loaded one by one, each would parse all of dvc.yaml and dvc.lock.
        stages = {stage.addressing: stage for stage in self._repo.index.stages}
        planned = []
        for name, chosen in selected.items():
            upstream = self._reproduction.upstream(stages[name])
            planned.append(planner.planned(stages[name], upstream, chosen))
        return Plan(tuple(planned))

    @_locked
    def pull_run_cache(self) -> None:
        """Download the run cache from the default remote."""
        try:
            self._repo.stage_cache.pull(None)
        except RunCacheNotSupported as error:
            self._say(f"The run cache was not pulled: {describe_error(error)}")

    @_locked
    def must_run(self, name: str, *, force: bool = False) -> bool:
        """Return whether stage `name` has a command and is changed or forced."""
        stage = self._stages.get(name)
        if not stage.cmd or stage.frozen:
            return False
        return force or self._options.force or self._reproduction.changed(stage)

    @contextmanager
    def opened(self, name: str, *, force: bool = False) -> Iterator[OpenStage]:
        """Open stage `name`; while it is open, no other command may touch its files."""
        claim = ExitStack()
        try:
            yield self._open(name, claim, force=force or self._options.force)
        finally:
            # By now only a stage that failed has its claim. On a full disk it can't be
            # removed; DVC drops it once this process is gone.
            with suppress(OSError):
                claim.close()
            with self._mutex:
                self._stages.forget(name)

    @_locked
    def _open(self, name: str, claim: ExitStack, *, force: bool) -> OpenStage:
        stage = self._stages.get(name)
        settled = self._reproduction.settle(stage, force=force)
        if isinstance(settled, OpenStage):
            return settled
        claim.enter_context(self._reproduction.claim(stage))
        made_from = fingerprint(stage)
        shell = get_executable()
        return OpenStage(
            outcome=None,
            reason=str(FORCED) if force else settled,
            commands=[_make_cmd(shell, c) for c in _enforce_cmd_list(stage.cmd)],
            process=prepare_kwargs(stage),
            record=lambda: self._record(name, claim, made_from),
        )

    @_locked
    def _record(self, name: str, claim: ExitStack, made_from: object) -> None:
        # The claim excludes every other holder, this object included. The repository's
        # lock is held now, so nothing can step in between.
        claim.close()
        stage = self._stages.get(name)
        stage.save_deps(allow_missing=self._options.allow_missing)
        if fingerprint(stage) != made_from:
            raise DependencyChanged(
                f"A dependency of stage {name!r} was edited while it ran, so its "
                "result was not recorded; run the pipeline again."
            )
        self._reproduction.save(stage)


@contextmanager
def _as_project_errors() -> Iterator[None]:
    """Raise each error of DVC as a `ProjectError` of one sentence."""
    try:
        yield
    except LockError as error:
        raise ProjectBusy(describe_error(error)) from error
    except (DvcException, OSError) as error:
        raise ProjectError(describe_error(error)) from error
    except (sqlite3.Error, DiskError, Timeout) as error:
        raise ProjectError(
            f"DVC's database of file hashes can't be used ({error}); check that the "
            "folder that `dvc doctor` calls site_cache_dir is yours and not full."
        ) from error
