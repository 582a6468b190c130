"""DVC's default remote: copy single files to and from it by their MD5.

`dvc push` and `dvc pull` know the files that dvc.lock names now. A champion may be the
output of an old run, known by its MD5 alone. `python -m flows.results.remote MD5 ...`
pushes such files.

DVC's locks are not needed: in a cache and a remote, a file's name is its MD5 and its
content never changes. Files are written under a temporary name, then renamed.
"""

import argparse
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.repo import Repo

from prefect_dvc import describe_error
from tasks.runtime.params import BadInput

MD5 = re.compile(r"[0-9a-f]{32}")
# The folder of a cache or remote that holds the files, since DVC 3.
FILES = "/files/md5"
# Settings of remotes, and environment variables, that hold credentials.
SECRET = re.compile(
    r"key|password|passphrase|secret|token|connection_string", re.IGNORECASE
)
# A shorter credential would also occur in unrelated words.
SHORTEST_SECRET = 6
NO_DEFAULT = "DVC has no default remote; choose one with `dvc remote default NAME`."


class RemoteError(BadInput):
    """A file can't be copied to or from the remote; the message is one sentence."""


class MissingFile(RemoteError):
    """Neither DVC's cache nor the remote has the file."""


def configuration(root: Path) -> dict[str, Any]:
    """Return DVC's configuration of the checkout at `root`."""
    try:
        return dict(Config(str(root / ".dvc")))
    except DvcException as error:
        raise RemoteError(describe_error(error)) from error


def masked(text: str, remotes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `text` without the credentials of remotes, the environment and URLs.

    DVC prints messages of servers unchanged. None was seen to repeat a password, but a
    server may. `remotes` is the section `remote` of DVC's configuration.
    """
    secrets = {
        value
        for settings in (os.environ, *remotes.values())
        for name, value in settings.items()
        if SECRET.search(name)
        and isinstance(value, str)
        and len(value) >= SHORTEST_SECRET
    }
    # The longest first: one may be a part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"(?<=://)[^\s/]*@", "***@", text)


def push_objects(root: Path, md5s: list[str]) -> None:
    """Copy files of DVC's cache to the default remote, unless it has them.

    Raises:
        RemoteError: the remote can't be used; what was copied before stays there.
        MissingFile: a file is neither in the cache nor on the remote.
    """
    with _opened(root, md5s) as repo, _default_remote(repo) as (remote, name):
        cache = repo.cache.local
        for md5 in md5s:
            path = Path(cache.oid_to_path(md5))
            size = _size(remote, md5)
            if _has_md5(path, md5):
                # Over ssh, a push that was killed leaves a part of a file.
                if size != path.stat().st_size:
                    remote.add(str(path), cache.fs, md5, check_exists=False)
            elif size is None:
                raise MissingFile(_not_found(md5, name))


def fetch_object(root: Path, md5: str) -> bytes:
    """Return the content of the file with this MD5, from DVC's cache or the remote.

    A file that comes from the remote is added to the cache.

    Raises:
        RemoteError: the cache doesn't have it, and the remote can't be used.
        MissingFile: neither has it, or the remote's file has other content.
    """
    with _opened(root, [md5]) as repo:
        cache = repo.cache.local
        path = Path(cache.oid_to_path(md5))
        if not _has_md5(path, md5):
            with tempfile.TemporaryDirectory() as folder:
                fetched = Path(folder, md5)
                _download(repo, md5, fetched)
                path.unlink(missing_ok=True)
                cache.add(str(fetched), cache.fs, md5)
        return path.read_bytes()


def _download(repo: Any, md5: str, path: Path) -> None:
    if not repo.config["core"].get("remote"):
        raise MissingFile(f"The file {md5} is not in DVC's cache, and {NO_DEFAULT}")
    with _default_remote(repo) as (remote, name):
        if _size(remote, md5) is None:
            if remote.fs.exists(remote.path.removesuffix(FILES)):
                raise MissingFile(_not_found(md5, name))
            raise RemoteError(
                f"Nothing is at {name}, so the file {md5} can't be fetched; check the "
                "address, and that it can be reached from here."
            )
        remote.fs.get_file(remote.oid_to_path(md5), str(path))
    if not _has_md5(path, md5):
        raise MissingFile(
            f"The remote {name} has other content under {md5}, which was not used."
        )


@contextmanager
def _opened(root: Path, md5s: list[str]) -> Iterator[Any]:
    """Open the DVC repository at `root`; an invalid MD5 must not become a path."""
    for md5 in md5s:
        if not MD5.fullmatch(md5):
            raise RemoteError(
                f"{md5!r} is not an MD5, which has 32 hexadecimal digits."
            )
    try:
        repo = Repo(str(root))
    except DvcException as error:
        raise RemoteError(describe_error(error)) from error
    with repo:
        yield repo


@contextmanager
def _default_remote(repo: Any) -> Iterator[tuple[Any, str]]:
    """Yield the default remote and its name; its client's errors become RemoteError."""
    settings = repo.config["remote"]
    if not repo.config["core"].get("remote"):
        raise RemoteError(NO_DEFAULT)
    name = ""
    try:
        remote = repo.cloud.get_remote_odb()
        url = remote.fs.unstrip_protocol(remote.path.removesuffix(FILES))
        name = masked(url, settings)
        yield remote, name
    except RemoteError:
        raise
    except Exception as error:  # each client has its own exceptions
        reason = masked(describe_error(error) or type(error).__name__, settings)
        raise RemoteError(
            f"The remote {name} can't be used: {reason}" if name else reason
        ) from error


def _size(remote: Any, md5: str) -> int | None:
    """Return the size of a file on the remote, in bytes; None if it is missing."""
    try:
        return int(remote.fs.info(remote.oid_to_path(md5))["size"])
    except FileNotFoundError:
        return None


def _has_md5(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == md5


def _not_found(md5: str, name: str) -> str:
    return f"The file {md5} is neither in DVC's cache nor on the remote {name}."


def main() -> None:
    """Push files by their MD5, from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.results.remote", description=__doc__
    )
    parser.add_argument("md5", nargs="+", help="of a file in DVC's cache")
    try:
        push_objects(Path.cwd(), parser.parse_args().md5)
    except RemoteError as error:
        sys.exit(f"ERROR: {error}")  # as DVC prints errors


if __name__ == "__main__":
    main()
