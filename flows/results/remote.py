"""DVC's default remote: which it is, and single files to and from it by their md5.

`dvc push` and `dvc pull` know the files that dvc.lock names now. A champion may be the
output of a run long past, which dvc.lock names no more: its md5 is all there is to it.
`python -m flows.results.remote MD5 ...` pushes such files.

No lock of DVC's is needed. A cache and a remote hold files under their md5, which never
change and appear whole, by a rename; whoever needs a file copies it. The index that DVC
keeps of a remote is not touched.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.config import Config, NoRemoteError
from dvc.exceptions import DvcException
from dvc.repo import Repo

from flows.results.redact import masked
from prefect_dvc import describe_error
from tasks.runtime.files import replacing

MD5 = re.compile(r"[0-9a-f]{32}")
# Where a cache and a remote keep files, since DVC 3.
FILES = "/files/md5"


class RemoteError(Exception):
    """A file can't be copied to or from the remote; the message is one sentence."""


class Unreachable(RemoteError):
    """The remote does not answer, refuses, or can't be used as it is configured."""


class NoDefault(Unreachable):
    """DVC has no default remote (`core.remote`)."""


class Missing(RemoteError):
    """The file is neither in DVC's cache nor on the remote."""


def configuration(root: Path) -> dict[str, Any]:
    """Return what DVC's configuration files say about the checkout at `root`.

    Raises:
        Unreachable: they can't be read.
    """
    try:
        return dict(Config(str(root / ".dvc")))
    except DvcException as error:
        raise Unreachable(describe_error(error)) from error


def push_objects(root: Path, md5s: Iterable[str]) -> None:
    """Copy files of DVC's cache to the default remote of the checkout at `root`.

    What the remote has already is left alone.

    Raises:
        NoDefault: there is no default remote.
        Unreachable: the remote can't be used; what was copied before stays there.
        Missing: a file is neither in the cache nor on the remote.
    """
    with _opened(root) as repo:
        remote = _Remote(repo, "push")
        for md5 in md5s:
            _push(repo.cache.local, remote, _checked(md5))


def fetch_object(root: Path, md5: str, path: Path) -> None:
    """Write the file with hash `md5` to `path`, from DVC's cache or else the remote.

    It is held to its md5 before it gets its name; until then what stood at `path`
    stays. A file that came from the remote is left in the cache too.

    Raises:
        Unreachable: the cache does not have it, and the remote can't be used.
        Missing: neither has it, or the remote has another file in its place.
    """
    _checked(md5)
    with _opened(root) as repo, replacing(path) as temporary:
        cache = repo.cache.local
        if not _copied(cache, md5, temporary):
            _download(_source(repo, md5), md5, temporary)
            _keep(cache, md5, temporary)


class _Remote:
    """The default remote, whose client's errors become sentences."""

    def __init__(self, repo: Any, command: str) -> None:
        self._settings = repo.config["remote"]
        try:
            self.files = repo.cloud.get_remote_odb(command=command)
        except NoRemoteError as error:
            raise NoDefault(
                "DVC has no default remote; name one by `dvc remote default NAME`."
            ) from error
        except (DvcException, ImportError) as error:
            # Each kind of remote has a package of its own (dvc-s3, dvc-ssh).
            raise Unreachable(masked(describe_error(error), self._settings)) from error
        self.place = self.files.path.removesuffix(FILES)
        self.name = masked(self.files.fs.unstrip_protocol(self.place), self._settings)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise what the client raises, each its own kind, as one sentence."""
        try:
            yield
        except Exception as error:
            reason = masked(
                describe_error(error) or type(error).__name__, self._settings
            )
            raise Unreachable(
                f"The remote {self.name} can't be used: {reason}"
            ) from error

    def size(self, md5: str) -> int | None:
        """Return the size of a file, in bytes; None if it is not there."""
        with self.answering():
            try:
                return int(self.files.fs.info(self.files.oid_to_path(md5))["size"])
            except FileNotFoundError:
                return None

    def exists(self) -> bool:
        """Return whether anything is at the place of the remote."""
        with self.answering():
            return bool(self.files.fs.exists(self.place))


def _push(cache: Any, remote: _Remote, md5: str) -> None:
    path = cache.oid_to_path(md5)
    there = remote.size(md5)
    if not _is_there(cache, md5):
        if there is None:
            raise Missing(_nowhere(md5, remote))
    # Some remotes (ssh) show a file that is only half there, if a push was killed.
    elif there != Path(path).stat().st_size:
        with remote.answering():
            remote.files.add(path, cache.fs, md5, check_exists=False)


def _copied(cache: Any, md5: str, path: Path) -> bool:
    """Copy a file of the cache to `path`; return whether it is there, and whole."""
    try:
        cache.fs.get_file(cache.oid_to_path(md5), str(path))
    except FileNotFoundError:
        return False
    return _md5(path) == md5


def _source(repo: Any, md5: str) -> _Remote:
    """Return the default remote, for a file that the cache does not have."""
    try:
        return _Remote(repo, "fetch")
    except NoDefault as error:
        raise Missing(
            f"The file {md5} is not in DVC's cache, and there is no default remote to "
            "fetch it from; name one by `dvc remote default NAME`."
        ) from error


def _download(remote: _Remote, md5: str, path: Path) -> None:
    if remote.size(md5) is None:
        if remote.exists():
            raise Missing(_nowhere(md5, remote))
        raise Unreachable(
            f"Nothing is found at {remote.name}, so the file {md5} can't be fetched; "
            "is this the right place, and can it be reached from here?"
        )
    with remote.answering():
        remote.files.fs.get_file(remote.files.oid_to_path(md5), str(path))
    if _md5(path) != md5:
        raise Missing(
            f"The remote {remote.name} has another file in the place of {md5}, which "
            "was not used."
        )


def _keep(cache: Any, md5: str, path: Path) -> None:
    """Add a file to the cache, in the place of one that was corrupted, if any."""
    if cache.exists(md5):
        cache.delete(md5)
    cache.add(str(path), cache.fs, md5)


def _nowhere(md5: str, remote: _Remote) -> str:
    return f"The file {md5} is neither in DVC's cache nor on the remote {remote.name}."


def _is_there(cache: Any, md5: str) -> bool:
    """Return whether the cache has the file, whole."""
    path = Path(cache.oid_to_path(md5))
    return path.is_file() and _md5(path) == md5


def _checked(md5: str) -> str:
    """Return `md5` if it is one: it becomes part of a path."""
    if not MD5.fullmatch(md5):
        raise RemoteError(f"{md5!r} is not an md5, which has 32 hexadecimal digits.")
    return md5


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


@contextmanager
def _opened(root: Path) -> Iterator[Any]:
    """Yield DVC's view of the checkout."""
    try:
        repo = Repo(str(root))
    except DvcException as error:
        raise RemoteError(describe_error(error)) from error
    with repo:
        yield repo


def main() -> None:
    """Push files by their md5, from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.results.remote", description=__doc__
    )
    parser.add_argument("md5", nargs="+", help="of a file in DVC's cache")
    try:
        push_objects(Path.cwd(), parser.parse_args().md5)
    except RemoteError as error:
        # As DVC says it.
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    main()
