"""Single files of DVC's cache, by their md5, to and from the default remote.

`dvc push` and `dvc pull` know the files that dvc.lock names now. A champion may be the
output of a run long past, which dvc.lock names no more: its md5 is all there is to it.

No lock of DVC's is needed. A cache and a remote hold files under their md5, which never
change and appear whole, by a rename; whoever needs a file copies it. The files of the
index that DVC keeps of a remote are not touched.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.exceptions import DvcException
from dvc.repo import Repo

from flows.ledger import sentence
from tasks.files import replacing

MD5 = re.compile(r"[0-9a-f]{32}")


class RemoteError(Exception):
    """A file can't be copied to or from the remote; the message is one sentence."""


class Unreachable(RemoteError):
    """The remote does not answer, refuses, or can't be used as it is configured."""


class NoDefault(Unreachable):
    """DVC has no default remote (`core.remote`)."""


class Missing(RemoteError):
    """The file is neither in DVC's cache nor on the remote, as far as they answer."""


def push_objects(root: Path, md5s: Iterable[str]) -> None:
    """Copy files of DVC's cache to the default remote of the checkout at `root`.

    What the remote has already is left alone.

    Raises:
        NoDefault: there is no default remote.
        Unreachable: the remote can't be used; what was copied before stays there.
        Missing: a file is neither in the cache nor on the remote.
    """
    with _opened(root) as repo:
        remote = _default(repo, "push")
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
        if not _is_there(cache, md5):
            _download(_source(repo, md5), md5, temporary)
            _keep(cache, md5, temporary)
        else:
            cache.fs.get_file(cache.oid_to_path(md5), str(temporary))
        if _md5(temporary) != md5:
            raise Missing(f"The file {md5} changed while it was copied; try again.")


@contextmanager
def _opened(root: Path) -> Iterator[Any]:
    """Yield DVC's view of the checkout; what it raises becomes one sentence."""
    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        raise RemoteError(sentence(error)) from error


def _default(repo: Any, command: str) -> Any:
    """Return the object database of the default remote."""
    try:
        return repo.cloud.get_remote_odb(command=command)
    except NoRemoteError as error:
        raise NoDefault(
            "DVC has no default remote; name one by `dvc remote default NAME`."
        ) from error
    except DvcException as error:
        raise Unreachable(sentence(error)) from error


def _source(repo: Any, md5: str) -> Any:
    """Return the default remote, for a file that the cache does not have."""
    try:
        return _default(repo, "fetch")
    except NoDefault as error:
        raise Missing(
            f"The file {md5} is not in DVC's cache, and there is no default remote to "
            "fetch it from; name one by `dvc remote default NAME`."
        ) from error


def _push(cache: Any, remote: Any, md5: str) -> None:
    path = cache.oid_to_path(md5)
    there = _size_on(remote, md5)
    if not _is_there(cache, md5):
        if there is None:
            raise Missing(
                f"The file {md5} is neither in DVC's cache nor on the remote "
                f"{_name(remote)}."
            )
    # Some remotes (ssh) show a file that is only half there, if a push was killed.
    elif there != Path(path).stat().st_size:
        with _answering(remote):
            remote.add(path, cache.fs, md5, check_exists=False)


def _download(remote: Any, md5: str, path: Path) -> None:
    """Copy a file of the remote's to `path`.

    Raises:
        Missing: the remote does not have it, or not with this content.
        Unreachable: the remote does not answer, or there is nothing at its place.
    """
    if _size_on(remote, md5) is None:
        with _answering(remote):
            if not remote.fs.exists(_place(remote)):
                raise Unreachable(
                    f"There is nothing at {_name(remote)}, so the file {md5} can't be "
                    "fetched; is this the right place, and is it mounted?"
                )
        raise Missing(
            f"The file {md5} is neither in DVC's cache nor on the remote "
            f"{_name(remote)}."
        )
    with _answering(remote):
        remote.fs.get_file(remote.oid_to_path(md5), str(path))
    if _md5(path) != md5:
        raise Missing(
            f"The remote {_name(remote)} has another file in the place of {md5}; "
            "it was not used."
        )


def _keep(cache: Any, md5: str, path: Path) -> None:
    """Add a file to the cache, in the place of one that was corrupted, if any."""
    if cache.exists(md5):
        cache.delete(md5)
    cache.add(str(path), cache.fs, md5)


def _is_there(cache: Any, md5: str) -> bool:
    """Return whether the cache has the file, whole."""
    path = Path(cache.oid_to_path(md5))
    return path.is_file() and _md5(path) == md5


def _size_on(remote: Any, md5: str) -> int | None:
    """Return the size of the remote's file, or None if it has none."""
    with _answering(remote):
        try:
            return int(remote.fs.info(remote.oid_to_path(md5))["size"])
        except FileNotFoundError:
            return None


@contextmanager
def _answering(remote: Any) -> Iterator[None]:
    """Raise what a remote's client raises, each its own kind, as one sentence."""
    try:
        yield
    except RemoteError:
        raise
    except Exception as error:
        reason = sentence(error) or type(error).__name__
        raise Unreachable(
            f"The remote {_name(remote)} can't be used: {masked(reason)}"
        ) from error


def _place(remote: Any) -> str:
    """Return the path that the remote was configured with."""
    return str(remote.path.removesuffix("/files/md5"))


def _name(remote: Any) -> str:
    return masked(remote.fs.unstrip_protocol(_place(remote)))


def masked(text: str) -> str:
    """Return `text` without the user and the password of its URLs."""
    return re.sub(r"(?<=://)[^\s/]*@", "***@", text)


def _checked(md5: str) -> str:
    """Return `md5` if it is one: it becomes part of a path."""
    if not MD5.fullmatch(md5):
        raise RemoteError(f"{md5!r} is not an md5, which has 32 hexadecimal digits.")
    return md5


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
