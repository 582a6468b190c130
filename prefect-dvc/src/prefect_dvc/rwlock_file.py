"""DVC's file of read and write locks, `.dvc/tmp/rwlock`, written atomically.

DVC writes it in place, each time it looks at a stage. A process that is killed at that
moment leaves half a file, or an empty one, and every later DVC command refuses it. Here
it is written under a temporary name and renamed, and a broken one is removed.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.fs import LocalFileSystem
from dvc.repo import Repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, make_lock


class AtomicRwlock(LocalFileSystem):  # type: ignore[misc]  # DVC is not typed
    """The local file system, on which that one file is written atomically."""

    def open(self, path: str, mode: str = "r", **options: Any) -> Any:
        """Open a file as DVC does."""
        if mode == "w" and Path(path).name == RWLOCK_FILE:
            return _whole(Path(path))
        return super().open(path, mode, **options)


@contextmanager
def _whole(path: Path) -> Iterator[io.StringIO]:
    # DVC holds `rwlock.lock` meanwhile, so there is one writer at a time.
    note = io.StringIO()
    yield note
    draft = path.with_name(f"{path.name}.draft")
    try:
        draft.write_text(note.getvalue(), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        content = note.getvalue().encode()
        if not path.exists() or len(content) > path.stat().st_size:
            error.filename = str(path)  # a full disk does not name the file
            raise
        # A full disk has room for a content that is not longer than the old one.
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()


def repair(repo: Repo) -> None:
    """Remove the file if it can't be read: its holders are unknown anyway.

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
