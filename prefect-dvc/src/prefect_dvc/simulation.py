"""Follow a run stage by stage without running it: the work of `DvcProject.plan`.

The outputs of a stage that DVC would restore are known before they are restored, so the
stages that read them can be planned too: a dependency whose future content is known
answers DVC's questions with that content instead of the file's.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any

from dvc.dependency import Dependency
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import _can_hash
from dvc.stage.run import _enforce_cmd_list
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.build import build
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree

from prefect_dvc.changes import NEVER_RAN, changes
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Action, Change, PlannedStage
from prefect_dvc.selection import SelectedStage

FORCED = Change("stage", "", "is forced to run")
PENDING = "is made by a stage that runs"

# Metadata and hash of a file or folder.
Content = tuple[Meta, HashInfo]
# The content of each output of a stage, by path.
Contents = dict[str, Content]


class Planner:
    """Plans one stage after another, in the order of the run.

    The repository must be locked. `last_seconds` says how long each stage's commands
    took the last time.
    """

    def __init__(
        self, repo: Repo, options: RunOptions, last_seconds: Mapping[str, float]
    ) -> None:
        self._repo = repo
        self._options = options
        self._last_seconds = last_seconds
        # The outputs that will differ from the workspace when a stage's turn comes, by
        # path; None if the content is not known before the stage runs.
        self._future: dict[str, Content | None] = {}
        self._forced: set[str] = set()

    def planned(
        self, stage: Stage, upstream: list[Stage], selected: SelectedStage
    ) -> PlannedStage:
        """Return what a run would do with the next stage.

        The stage is freshly loaded; its dependencies are replaced by simulated ones.
        `upstream` are the stages that it reads from, in the whole repository.
        """
        name = stage.addressing
        pending = [] if stage.frozen else self._simulate(stage)
        forced = self._options.force or name in self._forced
        found = changes(
            stage,
            skip=pending,
            allow_missing=self._options.allow_missing,
            upstream=upstream,
        )
        if found != [NEVER_RAN]:
            found += [Change("dependency", str(dep), PENDING) for dep in pending]
        if forced:
            found = [FORCED, *found]
        runs = stage.cmd and not stage.frozen
        action = Action.UNCHANGED
        if found:
            may_restore = runs and not forced and not pending
            restored = self._restored(stage, upstream) if may_restore else None
            action = Action.RUN if restored is None else Action.RESTORE
            if runs or (stage.is_import and not stage.frozen):
                for out in stage.outs:
                    self._future[out.fs_path] = (restored or {}).get(out.fs_path)
            if self._options.force_downstream:
                self._forced.update(selected.feeds)
        return PlannedStage(
            name=name,
            action=action,
            changes=tuple(found),
            upstream=selected.upstream,
            description=selected.description,
            commands=tuple(_enforce_cmd_list(stage.cmd)) if runs else (),
            last_seconds=self._last_seconds.get(name),
        )

    def _simulate(self, stage: Stage) -> list[Dependency]:
        """Give a stage's dependencies their future content; return those unknown."""
        pending = []
        for position, dep in enumerate(stage.deps):
            changed = {
                path: content
                for path, content in self._future.items()
                if _overlap(path, dep.fs_path)
            }
            if not changed:
                continue
            if content := _future_content(dep, changed):
                stage.deps[position] = _FutureDependency.of(dep, content)
            else:
                pending.append(dep)
        return pending

    def _restored(self, stage: Stage, upstream: list[Stage]) -> Contents | None:
        """Return the content of the outputs if restored; None if they can't be."""
        if self._options.pull and not changes(
            stage, allow_missing=True, upstream=upstream
        ):
            return _contents(stage)
        try:
            entry = self._cache_entry(stage)
            if entry is None:
                return None
            # The steps of `StageCache.restore`, without the checkout.
            restored = self._repo.stage_cache._create_stage(entry, wdir=stage.wdir)  # noqa: SLF001
            return _contents(restored) if restored.outs_cached() else None
        except (DvcException, OSError):
            return None

    def _cache_entry(self, stage: Stage) -> dict[str, Any] | None:
        """Return the entry that `StageCache.restore` would restore; None if none."""
        if not _can_hash(stage):
            return None
        if (
            not stage.changed_stage()
            and stage.deps_cached()
            and all(out.hash_info for out in stage.outs)
        ):
            return dict(to_single_stage_lockfile(stage))
        if self._options.no_run_cache:
            return None
        stage.save_deps()
        entry: dict[str, Any] | None = self._repo.stage_cache._load(stage)  # noqa: SLF001  # the lookup has no public name
        return entry


def _contents(stage: Stage) -> Contents:
    return {out.fs_path: (out.meta, out.hash_info) for out in stage.outs}


class _FutureDependency(Dependency):  # type: ignore[misc]  # DVC is not typed
    """A dependency with the content that it will have."""

    exists = True
    future: Content

    @classmethod
    def of(cls, dep: Dependency, content: Content) -> "_FutureDependency":
        future = copy(dep)
        future.__class__ = cls
        future.future = content
        return future  # type: ignore[no-any-return]

    def _get_hash_meta(self) -> Content:
        return self.future

    def save(self) -> None:
        self.meta, self.hash_info = self.future


def _future_content(
    dep: Dependency, changed: Mapping[str, Content | None]
) -> Content | None:
    """Return the content of a dependency once the outputs in it have changed."""
    known = {path: content for path, content in changed.items() if content}
    is_file = dep.hash_name == "md5" and not isinstance(dep, ParamsDependency)
    if not is_file or len(known) < len(changed):
        return None
    path, content = next(iter(known.items()))
    try:
        if path == dep.fs_path:
            return content
        if dep.fs_path.startswith(f"{path}/"):
            return _part(dep, path, content)
        return _merged(dep, known)
    except (DvcException, OSError):
        return None


def _part(dep: Dependency, folder: str, content: Content) -> Content | None:
    """Return the content of a file or folder inside an output."""
    key = dep.fs.relparts(dep.fs_path, folder)
    tree = Tree.load(dep.cache, content[1])
    meta, hash_info = tree.get(key) or (None, None)
    if hash_info:
        return meta or Meta(), hash_info
    part = tree.get_obj(dep.cache, key)
    return (Meta(isdir=True), part.hash_info) if part else None


def _merged(dep: Dependency, outputs: Mapping[str, Content]) -> Content:
    """Return the content of a folder once the outputs in it have changed."""
    tree = Tree()  # type: ignore[no-untyped-call]
    if dep.fs.exists(dep.fs_path):
        _, _, found = build(
            dep.local_cache,
            dep.fs_path,
            dep.fs,
            dep.hash_name,
            ignore=dep.dvcignore,
            dry_run=True,
        )
        assert isinstance(found, Tree)
        inside = [dep.fs.relparts(path, dep.fs_path) for path in outputs]
        for key, meta, hash_info in found:
            if not any(key[: len(prefix)] == prefix for prefix in inside):
                tree.add(key, meta, hash_info)
    for path, (meta, hash_info) in outputs.items():
        prefix = dep.fs.relparts(path, dep.fs_path)
        if hash_info.isdir:
            for key, *entry in Tree.load(dep.cache, hash_info):
                tree.add((*prefix, *key), *entry)
        else:
            tree.add(prefix, meta, hash_info)
    tree.digest()
    return Meta(isdir=True, nfiles=len(tree)), tree.hash_info


def _overlap(one: str, other: str) -> bool:
    """Return whether two paths are the same, or one is a folder with the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
