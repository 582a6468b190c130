"""Write two of DVC's files atomically: `dvc.lock` and `.dvc/tmp/rwlock`.

DVC writes both in place. A process that is killed at that moment leaves half a file,
which every later DVC command refuses. Here they are written under a temporary name and
renamed.
"""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.dvcfile import Lockfile
from dvc.fs import LocalFileSystem
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, make_lock
from dvc.stage import Stage


def dump_lock(stage: Stage, lockfile: Lockfile) -> None:
    """Write a stage into dvc.lock, as `Lockfile.dump` does.

    The caller holds the repository, so there is one writer at a time.
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
        error.filename = str(path)  # missing if the disk is full
        raise
    if stage.repo.scm_context.files_to_track != before:
        stage.repo.scm_context.files_to_track = {*before, lockfile.relpath}


class AtomicRwlock(LocalFileSystem):  # type: ignore[misc]  # DVC is not typed
    """The local file system, on which the rwlock file is written atomically."""

    def open(self, path: str, mode: str = "r", **options: Any) -> Any:
        """Open a file as DVC does."""
        if mode == "w" and Path(path).name == RWLOCK_FILE:
            return _written_whole(Path(path))
        return super().open(path, mode, **options)


@contextmanager
def _written_whole(path: Path) -> Iterator[io.StringIO]:
    # DVC holds `rwlock.lock` meanwhile, so there is one writer at a time.
    file = io.StringIO()
    yield file
    content = file.getvalue().encode()
    draft = path.with_name(f"{path.name}.draft")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        if not path.exists() or len(content) > path.stat().st_size:
            error.filename = str(path)  # missing if the disk is full
            raise
        # A full disk has room for a content that is not longer than the old one.
        with path.open("r+b") as old:
            old.write(content)
            old.truncate()


def repair_rwlock(repo: Repo) -> None:
    """Remove an rwlock file that can't be read: its holders are unknown anyway.

    Raises:
        LockError: another DVC command is writing it.
    """
    path = Path(repo.tmp_dir, RWLOCK_FILE)
    guard = make_lock(
        str(path.with_name(RWLOCK_LOCK)),
        tmp_dir=repo.tmp_dir,
        hardlink_lock=repo.config["core"].get("hardlink_lock", False),
    )
    with guard:
        try:
            json.loads(path.read_bytes())
        except FileNotFoundError:
            return
        except ValueError:
            path.unlink()
