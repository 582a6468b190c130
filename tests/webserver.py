"""A local web server for tests, whose pages can misbehave."""

import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = bytes | Callable[[BaseHTTPRequestHandler], None]


class Web:
    """Pages by path, and the requests: path and Range header."""

    def __init__(self, url: str, pages: dict[str, Page]) -> None:
        self.url = url
        self.pages = pages
        self.asked: list[tuple[str, str | None]] = []


@contextmanager
def serving(pages: dict[str, Page], tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Serve bytes, also from a byte on; a page that is a function answers itself."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            web.asked.append((self.path, self.headers["Range"]))
            page = web.pages.get(self.path, missing)
            self.last = callable(page)
            if callable(page):
                page(self)
                self.close_connection = True
            else:
                answer(self, page, self.headers["Range"])

        def end_headers(self) -> None:
            if self.last:
                # Otherwise the client may reuse the connection, which is then closed.
                self.send_header("Connection", "close")
            super().end_headers()

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # clients hang up on purpose
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    web = Web(f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}", pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(
    handler: BaseHTTPRequestHandler, content: bytes, wanted: str | None = None
) -> None:
    """Send `content`, or the range in the Range header."""
    start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
    if start >= len(content) > 0:
        return status(416)(handler)
    handler.send_response(206 if wanted else 200)
    if wanted:
        end = len(content)
        handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    handler.wfile.write(content[start:])
    return None


def status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a page of a status without content."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return send


missing = status(404)
