"""Read files up to a size; write a file completely or not at all.

Files are written under a temporary name, then renamed.
"""

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tasks.runtime.params import BadInput


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of the file at `path`.

    Raises:
        BadInput: it has more than `most` bytes or is not a regular file.
        FileNotFoundError: it does not exist.
    """
    if path.stat() and not path.is_file():
        raise BadInput(f"{path} is not a regular file; move it away.")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise BadInput(f"{path} has more than {most:,} bytes; replace it.")
    return content


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success.

    On an error the temporary file is removed and `path` is unchanged. The temporary
    file of a killed process is removed by the next process that writes `path`.

    Raises:
        OSError: the file can't be written; `filename` is always set.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp inserts eight characters.
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
            left_over.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp creates private files; outputs get the usual permissions.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        # "No space left" names no file, and users don't know the temporary name.
        if error.filename is None or str(error.filename).endswith(".tmp"):
            error.filename = str(path)
            del error.filename2
        raise
    finally:
        if temporary:
            # In a folder that became read-only, the first error matters.
            with suppress(PermissionError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` with `content`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace the file at `path` with `content`, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace the file at `path` with `content`, indented, keys in the given order."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _umask() -> int:
    """Return the process's file mode mask, which is read by setting it twice."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
