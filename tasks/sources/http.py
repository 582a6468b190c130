"""Download a file over HTTP, bounded in time and size, and resume a broken transfer.

Bytes are kept in a `.part` file until the whole file has arrived and passed its check.
A server is not trusted: it may send anything, endlessly, or one byte at a time.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.client import responses
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin

import requests
import urllib3
from tqdm import tqdm

from tasks.runtime.params import BadInput

CHUNK = 1 << 16
MAX_REDIRECTS = 5
# After a second, if on a terminal.
progress_bar = partial(
    tqdm, unit="B", unit_scale=True, delay=1, leave=False, disable=None
)

Result = TypeVar("Result")
# Converts the content at a URL, or raises BadInput if it is the wrong content.
Check = Callable[[bytes, str], Result]


class Unavailable(BadInput):
    """A server or a program did not answer; a later try may succeed."""

    exit_code = os.EX_TEMPFAIL


class Missing(BadInput):
    """The server has no such file."""


class Session(requests.Session):
    """A session that verifies TLS, never retries, and follows no redirect by itself.

    For a redirect, requests reads and decompresses the whole body, of any size.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return no target."""


def within(seconds: float, work: Callable[[], Result], origin: str) -> Result:
    """Return what `work` returns; raise Unavailable if it takes too long.

    The timeout of a connection limits only silence. A server that sends a header byte
    by byte, or "100 Continue" endlessly, never exceeds it. Abandoned work continues in
    the background until it notices its own deadline, or the process ends.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised in the caller's thread
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        reason = f"stopped after {seconds:g} s; the next try resumes"
        raise Unavailable(f"{origin} is too slow: {reason}.") from None


@dataclass(frozen=True)
class Mirror:
    """A server of files, and its limits."""

    timeout: float  # seconds without an answer
    deadline: float  # for all files together, in the seconds of `time.monotonic`
    limit: int  # bytes of one file
    partial: Path  # folder of the `.part` files
    session: Session = field(default_factory=Session)

    def get(self, url: str, check: Check[Result]) -> Result:
        """Return `check` of the content at `url`.

        The `.part` file of an earlier try is used if it is whole, and resumed if not.
        If the result fails the check, the whole file is downloaded.
        """
        key = hashlib.sha256(url.encode()).hexdigest()[:8]
        part = self.partial / f"{key}-{url.rsplit('/', 1)[-1][-60:]}.part"
        if part.exists() and (start := part.stat().st_size):
            with suppress(BadInput):
                return check(part.read_bytes(), url)
            try:
                return self._download(url, part, start, check)
            except Unavailable:
                raise
            except BadInput:  # the part is not of this file
                pass
        return self._download(url, part, 0, check)

    def _download(
        self, url: str, part: Path, start: int, check: Check[Result]
    ) -> Result:
        """Download `url` from byte `start` on into `part`, and check the whole."""
        try:
            with self._open(url, start) as response:
                resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
                self._save(response, part, start if resumed else 0)
        except ValueError as error:  # other schemes, impossible hosts
            reason = type(error).__name__
            raise BadInput(f"{url} is not a valid address ({reason}).") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable(f"{url} {self._reason(error)}.") from None
        try:
            return check(part.read_bytes(), url)
        except BadInput:
            part.unlink()
            raise

    def _open(self, url: str, start: int) -> requests.Response:
        """Request `url` from byte `start` on; the body is the rest, or the whole."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        location = url
        for _ in range(MAX_REDIRECTS + 1):
            response = self.session.get(
                location, headers=headers, stream=True, timeout=self.timeout
            )
            if not response.is_redirect:
                _check_status(response, url, start)
                return response
            response.close()
            target = urljoin(location, response.headers["Location"])
            if location.startswith("https:") and not target.startswith("https:"):
                raise BadInput(f"{url} redirects to an address without https.")
            location = target
        raise BadInput(f"{url} redirects more than {MAX_REDIRECTS} times.")

    def _save(self, response: requests.Response, part: Path, start: int) -> None:
        """Write the body to `part`, after its first `start` bytes."""
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        left = response.raw.length_remaining
        total = None if left is None else start + left
        bar = progress_bar(desc=part.stem[9:], initial=start, total=total)
        with bar, part.open("ab" if start else "wb") as file:
            # read1 returns the bytes received so far, so slow bodies meet the deadline.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                if time.monotonic() > self.deadline:
                    raise Unavailable(
                        f"{response.url} is too slow; the next try resumes."
                    )
                if file.tell() + len(chunk) > self.limit:
                    part.unlink()
                    most = f"{self.limit:,} bytes"
                    raise BadInput(f"{response.url} has more than {most}.")
                file.write(chunk)
                bar.update(len(chunk))

    def _reason(self, error: Exception) -> str:
        match error:
            case requests.Timeout() | urllib3.exceptions.TimeoutError():
                return f"did not answer for {self.timeout:g} s"
            case requests.exceptions.SSLError() | urllib3.exceptions.SSLError():
                return "has no valid certificate for its name"
            case requests.ConnectionError(args=[cause, *_]):
                cause = getattr(cause, "reason", cause)
                return f"can't be reached ({type(cause).__name__})"
            case _:
                return f"sent an incomplete answer ({type(error).__name__})"


def _check_status(response: requests.Response, url: str, start: int) -> None:
    """Raise BadInput unless the body is the file, whole or from byte `start` on."""
    status = response.status_code
    content_range = response.headers.get("Content-Range", "")
    continues = start and content_range.startswith(f"bytes {start}-")
    if status == HTTPStatus.OK or (status == HTTPStatus.PARTIAL_CONTENT and continues):
        return
    response.close()
    phrase = responses.get(status, "")  # Python's, not the server's
    answer = f"{url} answered {status} {phrase}".rstrip()
    if status == HTTPStatus.NOT_FOUND:
        raise Missing(f"{answer}.")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
        raise Unavailable(f"{answer}; try later.")
    raise BadInput(f"{answer}, not the file.")
