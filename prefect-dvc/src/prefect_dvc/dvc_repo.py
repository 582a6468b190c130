"""The adapter over DVC: select stages, find them unchanged, record what they made.

It gives another engine the rules of `dvc repro`. A stage is unchanged, or its outputs
come from DVC's run cache, or its commands are handed out to be run and their result is
recorded in dvc.lock. The module knows nothing of Prefect.

It follows `dvc.repo.reproduce`, `dvc.stage.Stage.reproduce` and `.run` of DVC 3.67 step
by step, because those run the commands themselves, one at a time and out of the
caller's reach. One check is added: a result is refused if a dependency changed while
the commands ran.
"""

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from diskcache import Timeout
from dvc.dvcfile import PROJECT_FILE, Lockfile
from dvc.exceptions import CheckoutError, DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import rwlock
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError, RunCacheNotSupported
from dvc.stage.run import (
    _enforce_cmd_list,
    _make_cmd,
    _pull_missing_deps,
    get_executable,
    prepare_kwargs,
)
from dvc_data.hashfile.cache import DiskError

from prefect_dvc import rwlock_file
from prefect_dvc.changes import changes
from prefect_dvc.errors import (
    DependencyChanged,
    ProjectBusy,
    ProjectError,
    describe_error,
)
from prefect_dvc.loaded_stages import LoadedStages
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import SHOWN, Plan, reason
from prefect_dvc.results import Outcome
from prefect_dvc.simulation import FORCED, Planner

BUSY_POLL_SECONDS = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class SelectedStage:
    """A stage that a run visits, as DVC describes it.

    Attributes:
        upstream: names of the selected stages that must succeed before it starts.
        after: names of the selected stages that must have ended, well or not: those
            whose outputs a frozen stage reads. DVC has no edge there, but visits them
            first if dvc.yaml lists them first.
        feeds: names of the stages that read its outputs.
        description: `desc` in dvc.yaml.
        meta: `meta` in dvc.yaml, free for other tools to use.
    """

    upstream: tuple[str, ...]
    after: tuple[str, ...]
    feeds: tuple[str, ...]
    description: str
    meta: dict[str, Any]


@dataclass
class OpenStage:
    """One stage, checked and ready to run.

    Attributes:
        outcome: how the stage ended, if no command must run; None if they must.
        message: what was found, in a few words.
        reason: why the stage is not unchanged.
        commands: argument vectors, the same that `dvc repro` would start.
        process: keyword arguments for `subprocess.Popen` (`cwd`, `env`, ...).
        record: writes the result of the commands into dvc.lock and the cache.
        reproduced: whether `--force-downstream` forces the stages that need it.
    """

    outcome: Outcome | None
    message: str
    reason: str
    commands: list[list[str]]
    process: dict[str, Any]
    record: Callable[[], None]
    reproduced: bool = True


class DvcRepo:
    """The DVC repository around a folder; safe to use from several threads.

    The folder must be the current directory: DVC names stages as seen from there.

    Args:
        folder: inside a DVC repository.
        options: those of `dvc repro`.
        wait: whether to wait while another DVC command holds what a stage needs.
        pause: called between two tries with seconds to sleep; may raise to give up.
        say: called once with the reason of each wait.
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
            self._repo = Repo(root, fs=rwlock_file.AtomicRwlock())
        self.root = Path(root)
        self._stages = LoadedStages(self._repo)
        self._options = options
        self._mutex = threading.Lock()
        self._wait = wait
        self._say = say
        self._pause = pause

    def select(self) -> dict[str, SelectedStage]:
        """Return the stages that a run visits, in an order that respects the graph.

        Raises:
            ProjectBusy: another command holds the repository, and `wait` is false.
            ProjectError: dvc.yaml can't be read, or has no such target.
        """

        def act() -> dict[str, SelectedStage]:
            with self._locked():
                return self._select()

        return self._patiently(act)

    def plan(self, last_seconds: Mapping[str, float]) -> Plan:
        """Return what a run would do; it changes nothing.

        Args:
            last_seconds: how long each stage's commands took the last time.

        Raises:
            ProjectBusy: another command holds the repository, and `wait` is false.
            ProjectError: dvc.yaml can't be read, or has no such target.
        """
        return self._patiently(lambda: self._plan(last_seconds))

    def pull_run_cache(self) -> None:
        """Download the run cache, if the option `pull` asks for it."""
        if not self._options.pull or self._options.no_run_cache:
            return

        def act() -> None:
            with self._locked():
                try:
                    self._repo.stage_cache.pull(None)
                except RunCacheNotSupported as error:
                    self._say(f"The run cache was not pulled: {describe_error(error)}")

        self._patiently(act)

    def must_run(self, name: str, *, force: bool = False) -> bool:
        """Return whether stage `name` has a command and is not unchanged.

        Args:
            name: of a selected stage.
            force: run it even if unchanged.

        Raises:
            ProjectBusy: another command holds its files, and `wait` is false.
            ProjectError: a dependency or parameter is missing, or DVC refuses.
        """

        def act() -> bool:
            with self._locked():
                stage = self._stages.get(name)
                if not stage.cmd or stage.frozen:
                    return False
                return (
                    force
                    or self._options.force
                    or bool(
                        stage.changed(
                            self._options.allow_missing, self._upstream(stage)
                        )
                    )
                )

        return self._patiently(act)

    @contextmanager
    def opened(self, name: str, *, force: bool = False) -> Iterator[OpenStage]:
        """Open stage `name`; while it is open no other command may touch its files.

        Args:
            name: of a selected stage.
            force: run it even if unchanged.

        Raises:
            ProjectBusy: another command holds its files, and `wait` is false.
            ProjectError: a dependency or parameter is missing, or DVC refuses.
        """
        claim = ExitStack()
        force = force or self._options.force
        try:
            yield self._patiently(lambda: self._open(name, claim, force=force))
        finally:
            # By now only a stage that failed has its claim. On a full disk it can't be
            # removed; DVC drops it once this process is gone.
            with suppress(OSError):
                claim.close()
            with self._mutex:
                self._stages.forget(name)

    def _select(self) -> dict[str, SelectedStage]:
        options = self._options
        rwlock_file.repair(self._repo)
        whole_graph = self._repo.index.graph
        graph = get_active_graph(whole_graph)
        targets: tuple[str, ...] = options.targets or (PROJECT_FILE,)
        if options.all_pipelines:
            targets = ()
        stages = collect_stages(
            self._repo, targets, recursive=options.recursive, glob=options.glob
        )
        for stage in stages:
            if stage not in graph:
                raise ProjectError(
                    f"{stage.addressing!r} is not a stage of this project; choose "
                    "one that `dvc stage list --all` shows."
                )
        if options.only_targets:
            steps = stages
        else:
            steps = plan_repro(
                graph,
                stages or None,
                pipeline=options.pipeline,
                downstream=options.follows_downstream,
            )
        names = [stage.addressing for stage in steps]
        selected = {}
        for position, stage in enumerate(steps):
            upstream = {up.addressing for up in graph.successors(stage)}
            read = {up.addressing for up in whole_graph.successors(stage)} - upstream
            selected[stage.addressing] = SelectedStage(
                # `--single-item` runs the targets in the order given, whatever
                # the graph says.
                upstream=tuple(names[:position][-1:])
                if options.only_targets
                else tuple(name for name in names if name in upstream),
                after=tuple(name for name in names[:position] if name in read),
                feeds=tuple(
                    sorted(down.addressing for down in graph.predecessors(stage))
                ),
                description=stage.desc or "",
                meta=dict(stage.meta or {}),
            )
        return selected

    def _plan(self, last_seconds: Mapping[str, float]) -> Plan:
        with self._locked():
            selected = self._select()
            # One by one, each would parse all of dvc.yaml and dvc.lock.
            stages = {stage.addressing: stage for stage in self._repo.index.stages}
            planner = Planner(self._repo, self._options, last_seconds)
            return Plan(
                tuple(
                    planner.planned(
                        stage := stages[name],
                        self._upstream(stage),
                        chosen.upstream,
                        chosen.feeds,
                    )
                    for name, chosen in selected.items()
                )
            )

    def _open(self, name: str, claim: ExitStack, *, force: bool) -> OpenStage:
        with self._locked():
            stage = self._stages.get(name)
            settled = self._settle(stage, force=force)
            if isinstance(settled, OpenStage):
                return settled
            claim.enter_context(self._claim(stage))
            made_from = _fingerprint(stage)
            shell = get_executable()
            return OpenStage(
                outcome=None,
                message="",
                reason=str(FORCED) if force else settled,
                commands=[_make_cmd(shell, c) for c in _enforce_cmd_list(stage.cmd)],
                process=prepare_kwargs(stage),
                record=lambda: self._record(name, claim, made_from),
            )

    def _settle(self, stage: Stage, *, force: bool) -> OpenStage | str:
        """Bring a stage up to date without running its command, if that is possible.

        Returns:
            the stage, closed; or the reason why its commands must run.
        """
        options = self._options
        upstream = self._upstream(stage)
        if not stage.cmd or stage.frozen:
            # Data sources, imports and frozen stages have nothing to run here.
            why = reason(changes(stage), SHOWN)
            done = stage.reproduce(
                force=force,
                upstream=upstream,
                pull=options.pull,
                allow_missing=options.allow_missing,
                no_commit=options.no_commit,
            )
            if done:
                self._dump(stage)
                return _settled(Outcome.RAN, "recorded", why)
            return _settled(Outcome.UNCHANGED, "unchanged", "", reproduced=False)
        if not force and not stage.changed(options.allow_missing, upstream):
            return _settled(Outcome.UNCHANGED, "unchanged", "", reproduced=False)
        found = changes(stage, allow_missing=options.allow_missing, upstream=upstream)
        why = reason(found, SHOWN) or "changed"
        if not force and options.pull and self._pulled(stage, upstream):
            return _settled(
                Outcome.RESTORED, "pulled from the remote", why, reproduced=False
            )
        stage.remove_outs(ignore_remove=False, force=False)
        if not force:
            if options.pull:
                _pull_missing_deps(stage)
            try:
                self._repo.stage_cache.restore(
                    stage, run_cache=not options.no_run_cache, pull=options.pull
                )
            except RunCacheNotFoundError:
                pass
            else:
                self._save(stage)
                return _settled(Outcome.RESTORED, "restored from the run cache", why)
        # Like `dvc repro --force`, which looks for the dependencies only afterwards.
        stage.save_deps(allow_missing=force)
        return why

    def _pulled(self, stage: Stage, upstream: list[Stage]) -> bool:
        """Download a stage's outputs if nothing but them is missing."""
        if stage.changed(True, upstream):  # noqa: FBT003  # DVC's own signature
            return False
        try:
            self._repo.pull(stage.addressing)
            stage.checkout()
        except CheckoutError:
            return False
        return True

    def _upstream(self, stage: Stage) -> list[Stage]:
        """Return the stages that a stage reads from, where DVC looks at them."""
        if not self._options.allow_missing or self._options.only_targets:
            return []
        graph = get_active_graph(self._repo.index.graph)
        return list(graph.successors(stage)) if stage in graph else []

    def _record(self, name: str, claim: ExitStack, made_from: object) -> None:
        def act() -> None:
            with self._locked():
                # The claim excludes every other holder, this object included. The
                # repository's lock is held now, so nothing can step in between.
                claim.close()
                stage = self._stages.get(name)
                stage.save_deps(allow_missing=self._options.allow_missing)
                if _fingerprint(stage) != made_from:
                    raise DependencyChanged(
                        f"A dependency of stage {name!r} was edited while it ran, so "
                        "its result was not recorded; run the pipeline again."
                    )
                self._save(stage)

        self._patiently(act)

    def _save(self, stage: Stage) -> None:
        """Record the outputs in the workspace, as `Stage.run` does."""
        options = self._options
        uncached = any(
            not (out.use_cache or out.is_metric or out.is_plot) for out in stage.outs
        )
        stage.save(
            allow_missing=options.allow_missing,
            run_cache=not options.no_commit and not uncached,
        )
        if not options.no_commit:
            stage.commit(allow_missing=options.allow_missing)
        self._dump(stage)

    def _dump(self, stage: Stage) -> None:
        lockfile = getattr(stage.dvcfile, "_lockfile", None)
        if lockfile is None:  # a .dvc file
            stage.dump(update_pipeline=False)
            self._stages.wrote(stage.path)
        else:
            _dump(stage, lockfile)
            self._stages.wrote(lockfile.path)

    def _claim(self, stage: Stage) -> AbstractContextManager[None]:
        """Hold the stage's files as `dvc repro` holds them while a command runs."""
        repo = self._repo
        return rwlock(  # type: ignore[no-any-return]  # DVC is not typed
            repo.tmp_dir,
            repo.fs,
            # DVC identifies a holder by its pid and this label: stages of one process
            # need different labels.
            _holder() + stage.addressing,
            [dep.fs_path for dep in stage.deps],
            [out.fs_path for out in stage.outs],
            repo.config["core"].get("hardlink_lock", False),
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the repository, freshly read; only this thread may use it."""
        with (
            self._mutex,
            _as_project_errors(),
            lock_repo(self._repo),
            self._repo.scm_context(quiet=True),
        ):
            yield

    def _patiently(self, act: Callable[[], T]) -> T:
        """Return `act()`, waiting while another DVC command is in its way."""
        said = False
        while True:
            try:
                return act()
            except ProjectBusy as busy:
                # A frozen stage may read what another stage of this run writes.
                ours = f"(PID {os.getpid()}): {_holder()}" in str(busy)
                if not self._wait and not ours:
                    raise
                if not said and not ours:
                    self._say(f"Waiting: {busy}")
                    said = True
                self._pause(BUSY_POLL_SECONDS)


def _holder() -> str:
    """Return how DVC names a holder of a stage's files, without the stage."""
    return " ".join([*sys.argv, "stage "]).replace("\n", " ")


def _settled(
    outcome: Outcome, message: str, reason: str, *, reproduced: bool = True
) -> OpenStage:
    return OpenStage(outcome, message, reason, [], {}, lambda: None, reproduced)


def _dump(stage: Stage, lockfile: Lockfile) -> None:
    """Write a stage into dvc.lock: the whole file or nothing, unlike DVC's own `dump`.

    The caller holds the repository, so nothing else writes the draft.
    """
    path, draft = Path(lockfile.path), Path(stage.repo.tmp_dir, "dvc.lock")
    before = set(stage.repo.scm_context.files_to_track)
    try:
        draft.write_bytes(path.read_bytes() if path.exists() else b"")
        Lockfile(stage.repo, str(draft)).dump(stage)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        error.filename = str(path)  # a full disk does not name the file
        raise
    if stage.repo.scm_context.files_to_track != before:
        stage.repo.scm_context.files_to_track = {*before, lockfile.relpath}


def _fingerprint(stage: Stage) -> object:
    """Return what decides the stage's result, comparable by equality."""
    return stage.cmd, [(str(dep), dep.hash_info) for dep in stage.deps]


@contextmanager
def _as_project_errors() -> Iterator[None]:
    """Raise DVC's errors as one sentence of ours."""
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
