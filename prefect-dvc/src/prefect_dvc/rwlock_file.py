"""DVC's note of who works on which files, `.dvc/tmp/rwlock`: whole or not at all.

DVC writes it in place, each time it looks at a stage. A process that is killed in that
moment leaves half of it, or nothing, and every command of DVC refuses that from then
on. Here it is written to a temporary name and renamed, and what `dvc` left is mended.
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


class WholeClaims(LocalFileSystem):  # type: ignore[misc]  # DVC is not typed
    """The file system of this machine, on which that one file is replaced whole."""

    def open(self, path: str, mode: str = "r", **options: Any) -> Any:
        """Open a file, as DVC does it."""
        if mode == "w" and Path(path).name == RWLOCK_FILE:
            return _whole(Path(path))
        return super().open(path, mode, **options)


@contextmanager
def _whole(path: Path) -> Iterator[io.StringIO]:
    # Only one at a time edits the note: DVC holds its guard meanwhile.
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
            error.filename = str(path)  # which a full disk does not tell
            raise
        # A full disk has room for less than what stands there already.
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()


def mend(repo: Repo) -> None:
    """Remove the note if it can't be read; who was in it can't be told any more.

    Raises:
        LockError: a command of DVC is writing it.
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
