"""Get a file over HTTP: bounded in time and size, and going on where a try broke off.

What has come of a file is kept in a `.part` file until all of it is there and checked.
A server is taken at its worst: it may send anything, without end or a byte at a time.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
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

Result = TypeVar("Result")
# Turns the bytes as served, and their origin, into what is wanted; or raises BadInput.
Check = Callable[[bytes, str], Result]


class Unavailable(BadInput):
    """Something outside did not answer; the same call may pass later."""

    exit_code = os.EX_TEMPFAIL


class Missing(BadInput):
    """The server has no such file."""


class Session(requests.Session):
    """It verifies TLS, tries nothing twice, and leaves redirects to its user.

    requests would follow them, but reads the whole body of each, unzipped, to any size.
    """

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Find none."""


def within(seconds: float, work: Callable[[], Result], origin: str) -> Result:
    """Return what `work` returns, if it does so in time.

    A timeout of the connection is one of silence: a server that sends a header byte by
    byte, or "100 Continue" again and again, would never meet it. What is given up goes
    on in the background until it sees its own deadline, or the process ends.

    Raises:
        Unavailable: it took longer; whatever else `work` raises.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        raise Unavailable(
            f"{origin} is too slow: given up after {seconds:g} s; what came is kept."
        ) from None


@dataclass(frozen=True)
class Mirror:
    """Where files come from, and how much of anything is granted to it.

    Attributes:
        session: to ask with.
        timeout: seconds without an answer.
        deadline: of all its files together, in the seconds of `time.monotonic`.
        limit: bytes of one file.
        partial: folder of the `.part` files.
    """

    session: Session
    timeout: float
    deadline: float
    limit: int
    partial: Path

    def get(self, url: str, check: Check[Result]) -> Result:
        """Return what `check` makes of the bytes at `url`.

        They are kept in a `.part` file until something that checks them fails: an
        earlier try's part is used if it is whole, else continued, and if that
        makes no right file, fetched anew.
        """
        key = hashlib.sha256(url.encode()).hexdigest()[:8]
        part = self.partial / f"{key}-{url.rsplit('/', 1)[-1][-60:]}.part"
        if part.exists():
            with suppress(BadInput):
                return check(part.read_bytes(), url)
        continued = self._receive(url, part)
        try:
            return check(part.read_bytes(), url)
        except BadInput:
            part.unlink()
            if not continued:
                raise
        return self.get(url, check)

    def _receive(self, url: str, part: Path) -> bool:
        """Download `url` to `part`; True if that went on from what it held."""
        start = part.stat().st_size if part.exists() else 0
        try:
            with self._open(url, start) as response:
                continued = response.status_code == HTTPStatus.PARTIAL_CONTENT
                self._save(response, part, start if continued else 0)
                return continued
        except ValueError as error:  # of the address: other schemes, impossible hosts
            error_type = type(error).__name__
            raise BadInput(f"{url} can't be asked for ({error_type}).") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Unavailable(f"{url} {self._reason(error)}.") from None

    def _open(self, url: str, start: int) -> requests.Response:
        """Ask for `url` from byte `start` on; from 0 if the server can't do that."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        response = self._ask(url, headers)
        status = response.status_code
        content_range = response.headers.get("Content-Range", "")
        if status == HTTPStatus.OK or (
            status == HTTPStatus.PARTIAL_CONTENT
            and start
            and content_range.startswith(f"bytes {start}-")
        ):
            return response
        response.close()
        if start:
            return self._open(url, 0)
        # The number's own words, not the server's.
        phrase = f"{status} {responses.get(status, '')}".strip()
        answer = f"{url} answered {phrase}"
        if status == HTTPStatus.NOT_FOUND:
            raise Missing(f"{answer}.")
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
            raise Unavailable(f"{answer}; try later.")
        raise BadInput(f"{answer}, not the file.")

    def _ask(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Return the answer for `url`, or for the address that it redirects to."""
        location = url
        for _ in range(MAX_REDIRECTS + 1):
            response = self.session.get(
                location, headers=headers, stream=True, timeout=self.timeout
            )
            if not response.is_redirect:
                return response
            response.close()
            target = urljoin(location, response.headers["Location"])
            if location.startswith("https:") and not target.startswith("https:"):
                raise BadInput(f"{url} redirects to what is not https.")
            location = target
        raise BadInput(f"{url} redirects more than {MAX_REDIRECTS} times.")

    def _save(self, response: requests.Response, part: Path, start: int) -> None:
        """Write the body behind the first `start` bytes of `part`, as it comes."""
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        left = response.raw.length_remaining
        bar = tqdm(
            desc=part.name.removesuffix(".part").partition("-")[2],
            initial=start,
            total=None if left is None else start + left,
            unit="B",
            unit_scale=True,
            delay=1,
            leave=False,
            disable=None,  # where nobody watches
        )
        with bar, part.open("ab" if start else "wb") as file:
            # read1 returns what has come, so that a trickle meets the deadline too.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                if time.monotonic() > self.deadline:
                    raise Unavailable(f"{response.url} is too slow; what came is kept.")
                if file.tell() + len(chunk) > self.limit:
                    part.unlink()
                    raise BadInput(
                        f"{response.url} has more than {self.limit:,} bytes."
                    )
                file.write(chunk)
                bar.update(len(chunk))

    def _reason(self, error: Exception) -> str:
        match error:
            case requests.Timeout() | urllib3.exceptions.TimeoutError():
                return f"gave no answer for {self.timeout:g} s"
            case requests.exceptions.SSLError() | urllib3.exceptions.SSLError():
                return "is not who its certificate says, or has none"
            case requests.ConnectionError(args=[cause, *_]):
                cause = getattr(cause, "reason", cause)
                return f"can't be reached ({type(cause).__name__})"
            case _:
                return f"broke off ({type(error).__name__})"
