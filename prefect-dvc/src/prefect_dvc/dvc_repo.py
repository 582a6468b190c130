"""DVC's books of one checkout: what is unchanged, and what a run leaves behind.

The ledger gives another engine the rules of `dvc repro`: it finds a stage unchanged,
or takes its outputs from DVC's run cache, or hands out its command to be run and
records the result in dvc.lock. It knows nothing of Prefect, nor of what the stages do.

It follows `dvc.stage.Stage.reproduce` and `.run` of DVC 3.67, part by part, because
those run the command themselves, one at a time and out of the caller's reach. One step
is added: a result is refused if what it was made from changed while it was made.
"""

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from diskcache import Timeout
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import rwlock
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable, prepare_kwargs
from dvc_data.hashfile.cache import DiskError

from prefect_dvc import rwlock_file

BUSY_POLL_SECONDS = 0.2

T = TypeVar("T")


class LedgerError(Exception):
    """A stage can't be checked or recorded; the message is one sentence."""


class Busy(LedgerError):
    """Another DVC command works on the same files."""


class Changed(LedgerError):
    """What a stage was made from changed while it ran, so its result is not kept."""


@dataclass(frozen=True)
class Plan:
    """What DVC says of one stage before anything runs.

    Attributes:
        after: names of the stages whose outputs this one reads.
        description: `desc` in dvc.yaml.
        meta: `meta` in dvc.yaml, free for other tools to use.
    """

    after: frozenset[str]
    description: str
    meta: dict[str, Any]


@dataclass
class Entry:
    """One stage, opened in the ledger.

    Attributes:
        unchanged: why nothing needs to run; None if the commands must run.
        commands: argument vectors, the same as `dvc repro` would start.
        process: keyword arguments for `subprocess.Popen` (`cwd`, `env`, ...).
        record: writes the result of the commands into dvc.lock and the cache.
    """

    unchanged: str | None
    commands: list[list[str]]
    process: dict[str, Any]
    record: Callable[[], None]


class Ledger:
    """The books of the checkout at `root`; safe to use from several threads.

    Args:
        root: the folder with `.dvc/`, and the current directory, from which DVC names
            stages.
        wait: whether to wait while another DVC command holds what a stage needs.
        pause: called between two tries with seconds to sleep; may raise to give up.
        say: called once with the reason of each wait.
    """

    def __init__(
        self,
        root: Path,
        *,
        wait: bool,
        pause: Callable[[float], object],
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        # DVC notes every change of dvc.lock; the caller says what happened to a stage.
        logging.getLogger("dvc").setLevel(logging.WARNING)
        with _sentences():
            self._repo = Repo(str(root), fs=rwlock_file.WholeClaims())
        self._mutex = threading.Lock()
        self._wait = wait
        self._say = say
        self._pause = pause

    def plan(self, targets: Sequence[str] = ()) -> dict[str, Plan]:
        """Return the stages that `targets` (default: all) need, in running order.

        Raises:
            Busy: another command holds the repository, and the ledger does not wait.
            LedgerError: dvc.yaml can't be read, or has no such target.
        """
        return self._patiently(lambda: self._plan(targets))

    def _plan(self, targets: Sequence[str]) -> dict[str, Plan]:
        with self._locked():
            rwlock_file.mend(self._repo)
            graph = get_active_graph(self._repo.index.graph)
            stages = collect_stages(self._repo, targets) if targets else None
            for stage in stages or []:
                if stage not in graph:
                    raise LedgerError(
                        f"{stage.addressing!r} is no stage of this project; name one "
                        "that `dvc stage list --all` has."
                    )
            return {
                stage.addressing: Plan(
                    after=frozenset(up.addressing for up in graph.successors(stage)),
                    description=stage.desc or "",
                    meta=dict(stage.meta or {}),
                )
                for stage in plan_repro(graph, stages)
            }

    @contextmanager
    def entry(self, name: str, *, force: bool = False) -> Iterator[Entry]:
        """Open stage `name`; while it is open no other command may touch its files.

        Raises:
            Busy: another command holds them, and the ledger was told not to wait.
            LedgerError: a dependency or parameter is missing, or DVC refuses otherwise.
        """
        claim = ExitStack()
        try:
            yield self._patiently(lambda: self._open(name, claim, force=force))
        finally:
            # Open by now is only the claim of a stage that failed. On a full disk it
            # stays in the books, until DVC sees that this process is dead.
            with suppress(OSError):
                claim.close()

    def _open(self, name: str, claim: ExitStack, *, force: bool) -> Entry:
        with self._locked():
            stage = self._stage(name)
            unchanged = self._settle(stage, force=force)
            if unchanged is not None:
                return Entry(unchanged, [], {}, lambda: None)
            claim.enter_context(self._claim(stage))
            made_from = _fingerprint(stage)
            shell = get_executable()
            return Entry(
                unchanged=None,
                commands=[_make_cmd(shell, c) for c in _enforce_cmd_list(stage.cmd)],
                process=prepare_kwargs(stage),
                record=lambda: self._record(name, claim, made_from),
            )

    def _settle(self, stage: Stage, *, force: bool) -> str | None:
        """Bring `stage` up to date without running its command, if that can be done."""
        if not stage.cmd or stage.frozen:
            # Data sources and frozen stages have nothing to run: DVC verifies them.
            if stage.reproduce():
                stage.dump(update_pipeline=False)
            return "frozen or without a command"
        if not force and not stage.changed():
            return "unchanged"
        stage.remove_outs(ignore_remove=False, force=False)
        if not force:
            try:
                self._repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                pass
            else:
                _save(stage)
                return "restored from the run cache"
        stage.save_deps()
        return None

    def _record(self, name: str, claim: ExitStack, made_from: object) -> None:
        def act() -> None:
            with self._locked():
                # The claim excludes every other holder, this ledger included. The
                # repository's lock is held now, so nobody can step in between.
                claim.close()
                stage = self._stage(name)
                stage.save_deps()
                if _fingerprint(stage) != made_from:
                    raise Changed(
                        f"What stage {name!r} depends on was edited while it ran, so "
                        "its result was not recorded; run the pipeline again."
                    )
                _save(stage)

        self._patiently(act)

    def _claim(self, stage: Stage) -> AbstractContextManager[None]:
        """Hold the stage's files as `dvc repro` holds them while a command runs."""
        repo = self._repo
        return rwlock(  # type: ignore[no-any-return]  # DVC is not typed
            repo.tmp_dir,
            repo.fs,
            # DVC knows a holder by pid and label: stages of one flow need their own.
            f"{' '.join(sys.argv)} [{stage.addressing}]",
            [dep.fs_path for dep in stage.deps],
            [out.fs_path for out in stage.outs],
            repo.config["core"].get("hardlink_lock", False),
        )

    def _stage(self, name: str) -> Stage:
        (stage,) = collect_stages(self._repo, [name])
        return stage

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the repository, freshly read; nothing but this thread may use it."""
        with (
            self._mutex,
            _sentences(),
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
            except Busy as busy:
                if not self._wait:
                    raise
                if not said:
                    self._say(f"Waiting: {busy}")
                    said = True
                self._pause(BUSY_POLL_SECONDS)


def complete(root: Path) -> bool:
    """Return whether every output in dvc.lock is there: a glance, not a check."""
    try:
        stages = yaml.safe_load((root / "dvc.lock").read_bytes())["stages"]
        outs = [out["path"] for stage in stages.values() for out in stage["outs"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    return all((root / path).exists() for path in outs)


def _save(stage: Stage) -> None:
    """Record the outputs that stand in the workspace, as `Stage.run` does."""
    uncached = any(
        not (out.use_cache or out.is_metric or out.is_plot) for out in stage.outs
    )
    stage.save(run_cache=not uncached)
    stage.commit()
    _dump(stage)


def _dump(stage: Stage) -> None:
    """Write the stage into dvc.lock; unlike DVC's own `dump`, whole or not at all.

    The caller holds the repository, so nobody else is at the draft.
    """
    book = getattr(stage.dvcfile, "_lockfile", None)
    if book is None:  # a data source, which has a file of its own
        stage.dump(update_pipeline=False)
        return
    path, draft = Path(book.path), Path(stage.repo.tmp_dir, "dvc.lock")
    before = set(stage.repo.scm_context.files_to_track)
    try:
        draft.write_bytes(path.read_bytes() if path.exists() else b"")
        Lockfile(stage.repo, str(draft)).dump(stage)
        draft.replace(path)
    except OSError as error:
        error.filename = str(path)  # which a full disk does not tell
        raise
    if stage.repo.scm_context.files_to_track != before:
        stage.repo.scm_context.files_to_track = {*before, book.relpath}


def _fingerprint(stage: Stage) -> object:
    """Return what the stage's result is a function of, comparable by equality."""
    return stage.cmd, [(str(dep), dep.hash_info) for dep in stage.deps]


@contextmanager
def _sentences() -> Iterator[None]:
    """Raise what DVC raises as one sentence of ours."""
    try:
        yield
    except LockError as error:
        raise Busy(sentence(error)) from error
    except (DvcException, OSError) as error:
        raise LedgerError(sentence(error)) from error
    except (sqlite3.Error, DiskError, Timeout) as error:
        raise LedgerError(
            f"DVC's notes on files can't be used ({error}); see that there is room in "
            "the folder that `dvc doctor` calls site_cache_dir, and that it is yours."
        ) from error


def sentence(error: BaseException) -> str:
    """Join the messages of an error and its causes: DVC's cause often says why."""
    messages = []
    link: BaseException | None = error
    while link is not None:
        messages.append(" ".join(_words(link).split()))
        link = link.__cause__
    return ": ".join(dict.fromkeys(filter(None, messages)))


def _words(error: BaseException) -> str:
    """Return an error's message; of the system's, as seen from the checkout."""
    if isinstance(error, OSError) and isinstance(error.filename, str):
        return f"{os.path.relpath(error.filename)}: {error.strerror}"
    return str(error)
