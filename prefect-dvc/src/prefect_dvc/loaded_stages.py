"""The stages of a repository, parsed once for as long as their files are the same.

DVC parses a whole dvc.yaml and dvc.lock to load one stage, which takes a quarter of a
second for fifty stages. A run asks for each stage several times.
"""

from pathlib import Path

from dvc.dvcfile import ProjectFile
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages
from dvc.stage import Stage

# Identifies the content of a file: time of change, size, inode; None if missing.
Version = tuple[int, int, int] | None


class LoadedStages:
    """Loads stages by name; the caller holds the repository's lock."""

    def __init__(self, repo: Repo) -> None:
        self._repo = repo
        self._stages: dict[str, Stage] = {}
        self._versions: dict[Path, Version] = {}

    def get(self, name: str) -> Stage:
        """Return stage `name` as its files define and record it now.

        The same object is returned until `forget`; DVC changes it when it runs.
        """
        if self._versions != {path: _version(path) for path in self._versions}:
            self._stages = {}
        if not self._stages:
            self._load()
        if name not in self._stages:
            (self._stages[name],) = collect_stages(self._repo, [name])
        return self._stages[name]

    def forget(self, name: str) -> None:
        """Load stage `name` from its files the next time."""
        self._stages.pop(name, None)

    def wrote(self, path: Path | str) -> None:
        """Accept a file that the caller wrote: its other stages have not changed."""
        path = Path(path).absolute()
        if path in self._versions:
            self._versions[path] = _version(path)

    def _load(self) -> None:
        self._stages = {stage.addressing: stage for stage in self._repo.index.stages}
        files = {stage.dvcfile.path: stage.dvcfile for stage in self._stages.values()}
        paths = {Path(path).absolute() for path in files}
        for file in files.values():
            if isinstance(file, ProjectFile):
                paths |= _read_by(file)
        self._versions = {path: _version(path) for path in paths}


def _read_by(file: ProjectFile) -> set[Path]:
    """Return the files that a dvc.yaml needs: its dvc.lock, and files of variables."""
    folder = Path(file.path).absolute().parent
    paths = {folder / "dvc.lock", folder / "params.yaml"}
    paths |= {Path(path).absolute() for path in file.resolver.context.imports}
    for definition in file.contents.get("stages", {}).values():
        body = definition.get("do", definition)
        names = [name for name in body.get("vars", []) if isinstance(name, str)]
        wdir = folder / str(body.get("wdir", "."))
        paths |= {wdir / name.partition(":")[0] for name in names}
    return paths


def _version(path: Path) -> Version:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
