"""Read what is not too large; write a file whole or not at all.

Written is to a temporary name first, then comes one rename.
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
        BadInput: it has more than `most` bytes, or is no regular file.
        FileNotFoundError: there is none.
    """
    if path.stat() and not path.is_file():
        raise BadInput(f"{path} is no file; move it away.")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise BadInput(f"{path} has more than {most:,} bytes; it is not ours.")
    return content


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success.

    On any error the temporary file is removed and what stood at `path` stays. A process
    that is killed can't remove its own: the next one that writes `path` does.

    Raises:
        OSError: it can't be written; `filename` is always given.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The eight characters are mkstemp's.
        for left_over in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
            left_over.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes private files; an output has the permissions of any other file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        # A full disk does not say where, and of temporary names nobody has heard.
        if error.filename is None or str(error.filename).endswith(".tmp"):
            error.filename = str(path)
            del error.filename2
        raise
    finally:
        if temporary:
            # Where the folder is read-only, the error that tells so is on its way.
            with suppress(PermissionError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at `path` by `content`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Replace the file at `path` by `content`, as UTF-8."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace the file at `path` by `content`: indented, keys in the order given."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _umask() -> int:
    """Return the process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
