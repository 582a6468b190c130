"""Pages for `webserver.serving` that answer wrongly, slowly, or never."""

import socket
import struct
import time

CONTENT = bytes(range(256)) * 1000


def cut(handler):
    """Announce the whole file, but close the connection after 100,000 bytes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:100_000])


def chunked_without_end(handler):
    """Send chunks without an announced length, far above the size limit."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def stall(handler):
    """Send the headers, then nothing for five seconds."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    time.sleep(5)


def silence(_handler):
    """Send nothing for five seconds."""
    time.sleep(5)


def trickle(handler):
    """Send single bytes, each well before the timeout."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    for byte in CONTENT[:100]:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def moved(target, body=b""):
    """Return a page that redirects to `target`."""

    def page(handler):
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return page


def raw(*parts, reset=False):
    """Return a page that sends these bytes unchanged, whether they are HTTP or not."""

    def page(handler):
        for part in parts:
            handler.wfile.write(part)
        if reset:
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()

    return page
