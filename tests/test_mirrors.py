import gzip
import shutil
import socket
import ssl
import subprocess
import time

import pytest
from webserver import answer, serving, status

from tasks.mirrors import Mirror, Missing, Session, Unavailable
from tasks.settings import BadInput

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def web():
    with serving({"/file": CONTENT}) as web:
        yield web


@pytest.fixture
def mirror(tmp_path):
    with Session() as session:
        yield Mirror(
            session,
            timeout=0.2,
            deadline=time.monotonic() + 20,
            limit=300_000,
            partial=tmp_path / ".partial",
        )


def whole(content, origin):
    """A check: these are the bytes."""
    if content != CONTENT:
        raise BadInput(f"{origin} is another file.")
    return content


def part_of(mirror):
    (part,) = mirror.partial.glob("*-file.part")
    return part


def cut(handler):
    """A page that announces all and breaks off after 100,000 bytes."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[:100_000])


def test_a_file_is_fetched_whole(web, mirror):
    assert mirror.get(f"{web.url}/file", whole) == CONTENT


def test_a_transfer_that_broke_off_is_continued(web, mirror):
    web.pages["/file"] = cut
    with pytest.raises(Unavailable, match="/file broke off"):
        mirror.get(f"{web.url}/file", whole)
    assert part_of(mirror).read_bytes() == CONTENT[:100_000]

    web.pages["/file"] = CONTENT
    assert mirror.get(f"{web.url}/file", whole) == CONTENT
    assert web.asked == [("/file", None), ("/file", "bytes=100000-")]
    assert part_of(mirror).read_bytes() == CONTENT


def test_a_file_that_was_fetched_already_is_not_asked_for_again(web, mirror):
    mirror.get(f"{web.url}/file", whole)
    mirror.get(f"{web.url}/file", whole)

    assert web.asked == [("/file", None)]


@pytest.mark.parametrize("kept", [b"x" * 1000, CONTENT + b"x"])
def test_a_part_of_another_file_costs_a_second_request_and_no_failure(
    web, mirror, kept
):
    mirror.get(f"{web.url}/file", whole)
    part_of(mirror).write_bytes(kept)

    assert mirror.get(f"{web.url}/file", whole) == CONTENT
    assert web.asked[1:] == [("/file", f"bytes={len(kept)}-"), ("/file", None)]


def other_range(handler):
    """A page that continues from another byte than it was asked for."""
    if handler.headers["Range"]:
        answer(handler, CONTENT, "bytes=7-")
    else:
        answer(handler, CONTENT)


@pytest.mark.parametrize("page", [lambda h: answer(h, CONTENT), other_range])
def test_a_server_that_can_not_continue_is_asked_for_the_whole(web, mirror, page):
    mirror.get(f"{web.url}/file", whole)
    part_of(mirror).write_bytes(CONTENT[:100_000])
    web.pages["/file"] = page

    assert mirror.get(f"{web.url}/file", whole) == CONTENT


def test_a_part_that_was_not_asked_for_is_no_file(web, mirror):
    web.pages["/file"] = lambda handler: answer(handler, b"x", "bytes=0-")

    with pytest.raises(BadInput, match="answered 206 Partial Content, not the file"):
        mirror.get(f"{web.url}/file", whole)


def test_another_file_under_the_right_name_is_refused_and_not_kept(web, mirror):
    web.pages["/file"] = b"<!DOCTYPE html>"

    with pytest.raises(BadInput, match="/file is another file") as refused:
        mirror.get(f"{web.url}/file", whole)
    assert not isinstance(refused.value, Unavailable)
    assert list(mirror.partial.iterdir()) == []
    assert len(web.asked) == 1


def chunked_without_end(handler):
    """A page that announces no length and never ends by itself."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")


@pytest.mark.parametrize("page", [bytes(300_001), chunked_without_end])
def test_a_file_that_is_too_large_is_given_up_and_not_kept(web, mirror, page):
    web.pages["/file"] = page

    with pytest.raises(BadInput, match="/file has more than 300,000 bytes"):
        mirror.get(f"{web.url}/file", whole)
    assert list(mirror.partial.iterdir()) == []


def compressing(handler):
    """A page that is compressed for the transfer where that is accepted."""
    accepted = "gzip" in handler.headers["Accept-Encoding"]
    answer(handler, gzip.compress(CONTENT) if accepted else CONTENT)


def compressed(handler):
    """A page that says it is compressed for the transfer, as if that had been asked."""
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT)


@pytest.mark.parametrize("page", [compressing, compressed])
def test_bytes_are_taken_as_they_are(web, mirror, page):
    web.pages["/file"] = page

    assert mirror.get(f"{web.url}/file", whole) == CONTENT


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        (404, Missing, "answered 404 Not Found"),
        (403, BadInput, "answered 403 Forbidden, not the file"),
        (429, Unavailable, "answered 429 Too Many Requests; try later"),
        (503, Unavailable, "answered 503 Service Unavailable; try later"),
    ],
)
def test_a_status_tells_what_may_pass_from_what_will_not(
    web, mirror, code, kind, sentence
):
    web.pages["/file"] = status(code)

    with pytest.raises(BadInput, match=f"{web.url}/file {sentence}") as refused:
        mirror.get(f"{web.url}/file", whole)
    assert type(refused.value) is kind


def stall(handler):
    """A page whose head comes, and nothing more for a while."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    time.sleep(5)


def silence(_handler):
    """A page of which nothing comes for a while."""
    time.sleep(5)


@pytest.mark.parametrize("page", [stall, silence])
def test_silence_is_borne_for_the_timeout_only(web, mirror, page):
    web.pages["/file"] = page
    start = time.monotonic()

    with pytest.raises(Unavailable, match=r"/file gave no answer for 0.2 s"):
        mirror.get(f"{web.url}/file", whole)
    assert time.monotonic() - start < 3


def trickle(handler):
    """A page that gives a byte at a time, each well before the timeout."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    for byte in CONTENT[:100]:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def test_a_trickle_is_borne_until_the_deadline_and_kept(web, tmp_path):
    web.pages["/file"] = trickle
    start = time.monotonic()
    with Session() as session:
        mirror = Mirror(session, 5, start + 0.3, 300_000, tmp_path)
        with pytest.raises(Unavailable, match="is too slow; what came is kept"):
            mirror.get(f"{web.url}/file", whole)

    assert time.monotonic() - start < 3
    kept = part_of(mirror).read_bytes()
    assert len(kept) > 1
    assert CONTENT.startswith(kept)


def test_a_port_where_nobody_listens_fails_at_once(mirror):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"can't be reached \(NewConnection"):
            mirror.get(url, whole)
    assert time.monotonic() - start < 2


@pytest.fixture
def own_certificate(tmp_path):
    """A server's side of TLS, with a certificate that nobody has signed."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    subprocess.run(
        [openssl, "req", "-x509", *kind, *names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


def test_a_certificate_that_nobody_signed_is_not_trusted(own_certificate, mirror):
    with (
        serving({"/file": CONTENT}, own_certificate) as web,
        pytest.raises(Unavailable, match="is not who its certificate says"),
    ):
        mirror.get(f"{web.url}/file", whole)
    assert web.asked == []


@pytest.mark.parametrize("url", ["http://", "http://[/file", "http://host:x/file"])
def test_what_is_no_address_is_refused_for_good(mirror, url):
    with pytest.raises(BadInput, match="can't be asked for") as refused:
        mirror.get(url, whole)
    assert not isinstance(refused.value, Unavailable)


def test_a_redirect_leads_to_the_file_but_not_to_other_protocols(web, mirror):
    def moved(handler):
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    web.pages["/moved"] = moved
    target = "/file"
    assert mirror.get(f"{web.url}/moved", whole) == CONTENT

    web.pages["/elsewhere"] = moved
    target = "file:///etc/hostname"
    with pytest.raises(BadInput, match="can't be asked for"):
        mirror.get(f"{web.url}/elsewhere", whole)
