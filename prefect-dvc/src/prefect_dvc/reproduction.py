"""The steps of `dvc.stage.Stage.reproduce` and `.run`, except the commands.

They follow DVC 3.67, which runs the commands itself: one at a time, with no way to stop
them.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from dvc.exceptions import CheckoutError
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph
from dvc.rwlock import rwlock
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.run import _pull_missing_deps

from prefect_dvc.atomic_files import dump_lock
from prefect_dvc.changes import changes
from prefect_dvc.loaded_stages import LoadedStages
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import SHOWN, reason
from prefect_dvc.results import Outcome


@dataclass
class OpenStage:
    """One stage, checked and ready to run.

    Attributes:
        outcome: how the stage ended, if no command must run; otherwise None.
        message: the outcome, in a few words.
        reason: why the stage is not unchanged.
        commands: argument vectors, the same that `dvc repro` would start.
        process: keyword arguments for `subprocess.Popen` (`cwd`, `env`, ...).
        record: writes the result of the commands into dvc.lock and the cache.
        reproduced: whether `--force-downstream` forces the stages that need it.
    """

    outcome: Outcome | None
    message: str = ""
    reason: str = ""
    commands: list[list[str]] = field(default_factory=list)
    process: dict[str, Any] = field(default_factory=dict)
    record: Callable[[], None] = lambda: None
    reproduced: bool = True


class Reproduction:
    """Brings stages up to date and records them; the repository must be locked."""

    def __init__(self, repo: Repo, stages: LoadedStages, options: RunOptions) -> None:
        self._repo = repo
        self._stages = stages
        self._options = options

    def upstream(self, stage: Stage) -> list[Stage]:
        """Return the stages that a stage reads from, where DVC looks at them."""
        if not self._options.allow_missing or self._options.only_targets:
            return []
        graph = get_active_graph(self._repo.index.graph)
        return list(graph.successors(stage)) if stage in graph else []

    def changed(self, stage: Stage) -> bool:
        """Return whether `dvc repro` would not skip a stage."""
        may_miss = self._options.allow_missing
        return bool(stage.changed(may_miss, self.upstream(stage)))

    def settle(self, stage: Stage, *, force: bool) -> OpenStage | str:
        """Bring a stage up to date without running its command, if that is possible.

        Returns:
            the stage, closed; or the reason why its commands must run.
        """
        options, upstream = self._options, self.upstream(stage)
        unchanged = OpenStage(Outcome.UNCHANGED, "unchanged", reproduced=False)
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
            if not done:
                return unchanged
            self._dump(stage)
            return OpenStage(Outcome.RAN, "recorded", why)
        if not force and not self.changed(stage):
            return unchanged
        found = changes(stage, allow_missing=options.allow_missing, upstream=upstream)
        why = reason(found, SHOWN) or "changed"
        if not force and options.pull and self._pulled(stage, upstream):
            pulled = "pulled from the remote"
            return OpenStage(Outcome.RESTORED, pulled, why, reproduced=False)
        stage.remove_outs(ignore_remove=False, force=False)
        if not force and self._restored(stage):
            return OpenStage(Outcome.RESTORED, "restored from the run cache", why)
        # `dvc repro --force` checks for missing dependencies only after the commands.
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

    def _restored(self, stage: Stage) -> bool:
        """Restore a stage's outputs from the run cache, if it has them."""
        options = self._options
        if options.pull:
            _pull_missing_deps(stage)
        try:
            self._repo.stage_cache.restore(
                stage, run_cache=not options.no_run_cache, pull=options.pull
            )
        except RunCacheNotFoundError:
            return False
        self.save(stage)
        return True

    def save(self, stage: Stage) -> None:
        """Record the outputs in the workspace, as `Stage.run` does."""
        allow_missing, commit = self._options.allow_missing, not self._options.no_commit
        cached = all(
            out.use_cache or out.is_metric or out.is_plot for out in stage.outs
        )
        stage.save(allow_missing=allow_missing, run_cache=commit and cached)
        if commit:
            stage.commit(allow_missing=allow_missing)
        self._dump(stage)

    def _dump(self, stage: Stage) -> None:
        lockfile = getattr(stage.dvcfile, "_lockfile", None)
        if lockfile is None:  # a .dvc file
            stage.dump(update_pipeline=False)
            self._stages.wrote(stage.path)
        else:
            dump_lock(stage, lockfile)
            self._stages.wrote(lockfile.path)

    def claim(self, stage: Stage) -> AbstractContextManager[None]:
        """Hold the stage's files as `dvc repro` holds them while a command runs."""
        return rwlock(  # type: ignore[no-any-return]  # DVC is not typed
            self._repo.tmp_dir,
            self._repo.fs,
            # DVC identifies a holder by its pid and this label: stages of one process
            # need different labels.
            holder() + stage.addressing,
            [dep.fs_path for dep in stage.deps],
            [out.fs_path for out in stage.outs],
            self._repo.config["core"].get("hardlink_lock", False),
        )


def holder() -> str:
    """Return how DVC names a holder of a stage's files, without the stage."""
    return " ".join([*sys.argv, "stage "]).replace("\n", " ")


def fingerprint(stage: Stage) -> object:
    """Return the inputs that decide the stage's result, comparable by equality."""
    return stage.cmd, [(str(dep), dep.hash_info) for dep in stage.deps]
