import gzip
import socket
import ssl
import stat
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from faulty_pages import (
    CONTENT,
    chunked_without_end,
    cut,
    moved,
    raw,
    silence,
    stall,
    trickle,
)
from webserver import answer, serving, status

from tasks.runtime.params import BadInput
from tasks.sources.http import Mirror, Missing, Unavailable, within


@pytest.fixture
def web():
    with serving({"/file": CONTENT}) as web:
        yield web


@pytest.fixture
def mirror(tmp_path):
    return Mirror(
        timeout=5,
        deadline=time.monotonic() + 20,
        limit=300_000,
        partial=tmp_path / ".partial",
    )


def whole(content, origin):
    """Check that these are the right bytes."""
    if content != CONTENT:
        raise BadInput(f"{origin} is another file.")
    return content


def part_of(mirror):
    (part,) = mirror.partial.glob("*-file.part")
    return part


def test_a_whole_file_is_downloaded(web, mirror):
    assert mirror.get(f"{web.url}/file", whole) == CONTENT


def test_a_broken_transfer_is_resumed(web, mirror):
    web.pages["/file"] = cut
    with pytest.raises(Unavailable, match="/file sent an incomplete answer"):
        mirror.get(f"{web.url}/file", whole)
    assert part_of(mirror).read_bytes() == CONTENT[:100_000]

    web.pages["/file"] = CONTENT
    assert mirror.get(f"{web.url}/file", whole) == CONTENT
    assert web.asked == [("/file", None), ("/file", "bytes=100000-")]
    assert part_of(mirror).read_bytes() == CONTENT


def test_a_downloaded_file_is_not_requested_again(web, mirror):
    mirror.get(f"{web.url}/file", whole)
    mirror.get(f"{web.url}/file", whole)

    assert web.asked == [("/file", None)]


@pytest.mark.parametrize("content", [b"x" * 1000, CONTENT + b"x"])
def test_a_part_of_another_file_is_replaced(web, mirror, content):
    mirror.get(f"{web.url}/file", whole)
    part_of(mirror).write_bytes(content)

    assert mirror.get(f"{web.url}/file", whole) == CONTENT
    assert web.asked[1:] == [("/file", f"bytes={len(content)}-"), ("/file", None)]


def other_range(handler):
    """Resume from another byte than requested."""
    if handler.headers["Range"]:
        answer(handler, CONTENT, "bytes=7-")
    else:
        answer(handler, CONTENT)


@pytest.mark.parametrize("page", [lambda h: answer(h, CONTENT), other_range])
def test_the_whole_file_is_requested_from_a_server_that_cannot_resume(
    web, mirror, page
):
    mirror.get(f"{web.url}/file", whole)
    part_of(mirror).write_bytes(CONTENT[:100_000])
    web.pages["/file"] = page

    assert mirror.get(f"{web.url}/file", whole) == CONTENT


def test_an_unrequested_part_is_refused(web, mirror):
    web.pages["/file"] = lambda handler: answer(handler, b"x", "bytes=0-")

    with pytest.raises(BadInput, match="answered 206 Partial Content, not the file"):
        mirror.get(f"{web.url}/file", whole)


def test_a_wrong_file_is_refused_and_deleted(web, mirror):
    web.pages["/file"] = b"<!DOCTYPE html>"

    with pytest.raises(BadInput, match="/file is another file") as refused:
        mirror.get(f"{web.url}/file", whole)
    assert not isinstance(refused.value, Unavailable)
    assert list(mirror.partial.iterdir()) == []
    assert len(web.asked) == 1


@pytest.mark.parametrize("page", [bytes(300_001), chunked_without_end])
def test_a_file_that_is_too_large_is_refused_and_deleted(web, mirror, page):
    web.pages["/file"] = page

    with pytest.raises(BadInput, match="/file has more than 300,000 bytes"):
        mirror.get(f"{web.url}/file", whole)
    assert list(mirror.partial.iterdir()) == []


def compressing(handler):
    """Compress the page if the client accepts that."""
    accepted = "gzip" in handler.headers["Accept-Encoding"]
    answer(handler, gzip.compress(CONTENT) if accepted else CONTENT)


def compressed(handler):
    """Announce a compression that the client did not accept."""
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT)


@pytest.mark.parametrize("page", [compressing, compressed])
def test_a_content_encoding_is_not_decoded(web, mirror, page):
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
def test_the_status_decides_whether_a_later_try_may_succeed(
    web, mirror, code, kind, sentence
):
    web.pages["/file"] = status(code)

    with pytest.raises(BadInput, match=f"{web.url}/file {sentence}") as refused:
        mirror.get(f"{web.url}/file", whole)
    assert type(refused.value) is kind


@pytest.mark.parametrize("page", [stall, silence])
def test_a_silent_server_is_given_up_after_the_timeout(web, mirror, page):
    web.pages["/file"] = page
    start = time.monotonic()

    with pytest.raises(Unavailable, match=r"/file did not answer for 0.2 s"):
        replace(mirror, timeout=0.2).get(f"{web.url}/file", whole)
    assert time.monotonic() - start < 5


def test_a_slow_body_is_given_up_at_the_deadline_and_kept(web, tmp_path):
    web.pages["/file"] = trickle
    start = time.monotonic()
    mirror = Mirror(5, start + 0.3, 300_000, tmp_path)
    with pytest.raises(Unavailable, match="is too slow"):
        mirror.get(f"{web.url}/file", whole)

    assert time.monotonic() - start < 5
    received = part_of(mirror).read_bytes()
    assert len(received) > 1
    assert CONTENT.startswith(received)


def test_a_closed_port_fails_at_once(mirror):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        start = time.monotonic()
        with pytest.raises(Unavailable, match=r"can't be reached \(NewConnection"):
            mirror.get(url, whole)
    assert time.monotonic() - start < 5


@pytest.fixture
def certified(tmp_path, monkeypatch):
    """Return a function that makes a TLS context and a file of its certificate."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)

    def make(address="127.0.0.1", days=1):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mirror")])
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), serial_number=1)
            .not_valid_before(now - timedelta(days=9))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(alternative, critical=False)
            .sign(key, hashes.SHA256())
        )
        trusted, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
        trusted.write_bytes(certificate.public_bytes(Encoding.PEM))
        plain = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        private.write_bytes(key.private_bytes(*plain))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(trusted, private)
        return tls, str(trusted)

    return make


def test_a_trusted_certificate_is_accepted(certified, mirror):
    tls, mirror.session.verify = certified()
    with serving({"/file": CONTENT}, tls) as web:
        assert mirror.get(f"{web.url}/file", whole) == CONTENT


@pytest.mark.parametrize("fault", [{"address": "127.0.0.2"}, {"days": -1}, None])
def test_a_certificate_of_another_host_or_expired_or_untrusted_is_refused(
    certified, mirror, fault
):
    tls, trusted = certified(**fault or {})
    if fault:
        mirror.session.verify = trusted
    with (
        serving({"/file": CONTENT}, tls) as web,
        pytest.raises(Unavailable, match="has no valid certificate"),
    ):
        mirror.get(f"{web.url}/file", whole)
    assert web.asked == []


def test_plain_http_is_refused_for_an_https_address(web, mirror):
    with pytest.raises(Unavailable, match="has no valid certificate"):
        mirror.get(web.url.replace("http:", "https:") + "/file", whole)


@pytest.mark.parametrize("url", ["http://", "http://[/file", "http://host:x/file"])
def test_an_invalid_address_is_refused(mirror, url):
    with pytest.raises(BadInput, match="is not a valid address") as refused:
        mirror.get(url, whole)
    assert not isinstance(refused.value, Unavailable)


@pytest.mark.parametrize("target", ["/file", "file", "{}/file"])
def test_a_redirect_is_followed(web, mirror, target):
    web.pages["/moved"] = moved(target.format(web.url))

    assert mirror.get(f"{web.url}/moved", whole) == CONTENT


@pytest.mark.parametrize(
    "target",
    [
        *("file:///etc/hostname", "ftp://127.0.0.1/file", "data:,x", "javascript:x"),
        *("http://[", "http://host:99999/", "\xff\xfe://"),
    ],
)
def test_a_redirect_to_another_scheme_is_refused(web, mirror, target):
    web.pages["/moved"] = moved(target)

    with pytest.raises(
        BadInput, match="/moved is not a valid address|/moved answered 404"
    ):
        mirror.get(f"{web.url}/moved", whole)


def test_endless_redirects_are_followed_five_times(web, mirror):
    web.pages["/moved"] = moved("/moved")

    with pytest.raises(BadInput, match="/moved redirects more than 5 times"):
        mirror.get(f"{web.url}/moved", whole)
    assert len(web.asked) == 6


def test_a_redirect_from_https_to_http_is_refused(certified, web, mirror):
    tls, mirror.session.verify = certified()
    with (
        serving({"/moved": moved(f"{web.url}/file")}, tls) as safe,
        pytest.raises(BadInput, match="/moved redirects to an address without https"),
    ):
        mirror.get(f"{safe.url}/moved", whole)
    assert web.asked == []


def test_the_body_of_a_redirect_is_not_read(web, mirror):
    written = []

    def chatty(handler):
        handler.send_response(302)
        handler.send_header("Location", "/file")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            written.append(0x10000)

    web.pages["/moved"] = chatty
    assert mirror.get(f"{web.url}/moved", whole) == CONTENT
    assert sum(written) < 30_000_000, "no more than the buffers of the network hold"


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
INVALID = {
    "reset at once": (raw(reset=True), Unavailable, "can't be reached|incomplete"),
    "nothing": (raw(), Unavailable, "can't be reached"),
    "no HTTP": (raw(b"\0\1\2\xff\r\n\r\n"), Unavailable, "can't be reached"),
    "a greeting": (raw(b"220 ready\r\n"), Unavailable, "can't be reached"),
    "no status": (raw(b"HTTP/1.1\r\n\r\n"), Unavailable, "can't be reached"),
    "a long status": (raw(b"HTTP/1.1 200 " + b"x" * 99999), Unavailable, "reached"),
    "a long header": (
        raw(OK, b"A: " + b"x" * 99_999 + b"\r\n\r\n"),
        Unavailable,
        "can't be reached",
    ),
    "many headers": (raw(OK, b"A: x\r\n" * 999, b"\r\n"), Unavailable, "reached"),
    "less than announced": (
        raw(OK, b"Content-Length: 256000\r\n\r\n", CONTENT[:9]),
        Unavailable,
        "incomplete",
    ),
    "more than announced": (
        raw(OK, b"Content-Length: 9\r\n\r\n", CONTENT),
        BadInput,
        "another",
    ),
    "two lengths": (
        raw(OK, b"Content-Length: 9\r\nContent-Length: 256000\r\n\r\n", CONTENT),
        BadInput,
        "InvalidHeader",
    ),
    "no length, and less": (raw(OK, b"\r\n", CONTENT[:9]), BadInput, "another file"),
    "an empty body": (raw(OK, b"Content-Length: 0\r\n\r\n"), BadInput, "another"),
    "no chunk": (raw(CHUNKED, b"zz\r\n"), Unavailable, "incomplete"),
    "a negative chunk": (raw(CHUNKED, b"-5\r\nabc"), Unavailable, "incomplete"),
    "half a chunk": (raw(CHUNKED, b"ff\r\nabc"), Unavailable, "incomplete"),
    "a chunk without end": (
        raw(CHUNKED, b"1;" + b"x" * 999_999),
        Unavailable,
        "incomplete",
    ),
    "half of it, then a reset": (
        raw(OK, b"Content-Length: 256000\r\n\r\n", CONTENT[:9], reset=True),
        Unavailable,
        "incomplete",
    ),
}


@pytest.mark.parametrize("answer", INVALID)
def test_an_invalid_answer_is_refused_in_one_sentence(web, mirror, answer):
    web.pages["/file"], kind, sentence = INVALID[answer]

    with pytest.raises(BadInput, match=f"^{web.url}/file .*({sentence})") as refused:
        mirror.get(f"{web.url}/file", whole)
    assert type(refused.value) is kind


@pytest.mark.parametrize("length", [b"", b"Content-Length: -5\r\n"])
def test_a_missing_or_negative_length_is_ignored(web, mirror, length):
    web.pages["/file"] = raw(OK, length, b"\r\n", CONTENT)

    assert mirror.get(f"{web.url}/file", whole) == CONTENT


def test_the_phrase_of_a_status_is_not_shown(web, mirror):
    web.pages["/file"] = raw(b"HTTP/1.1 404 \x1b[2JWelcome\r\n\r\n")
    with pytest.raises(Missing, match="/file answered 404 Not Found.$"):
        mirror.get(f"{web.url}/file", whole)

    web.pages["/file"] = raw(b"HTTP/1.1 499 Welcome\r\n\r\n")
    with pytest.raises(BadInput, match="/file answered 499, not the file"):
        mirror.get(f"{web.url}/file", whole)


@pytest.mark.parametrize("other", [bytes(156_000), CONTENT[100_001:] + b"x", b""])
def test_a_resumed_transfer_of_another_file_is_discarded(web, mirror, other):
    def lying(handler):
        if not handler.headers["Range"]:
            return answer(handler, CONTENT)
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 100000-255999/256000")
        handler.send_header("Content-Length", str(len(other)))
        handler.end_headers()
        return handler.wfile.write(other)

    web.pages["/file"] = cut
    with pytest.raises(Unavailable, match="/file sent an incomplete answer"):
        mirror.get(f"{web.url}/file", whole)
    web.pages["/file"] = lying

    assert mirror.get(f"{web.url}/file", whole) == CONTENT
    assert [wanted for _, wanted in web.asked] == [None, "bytes=100000-", None]


def test_nothing_is_written_after_the_deadline(web, tmp_path):
    mirror = Mirror(5, time.monotonic() - 1, 300_000, tmp_path)
    with pytest.raises(Unavailable, match="is too slow"):
        mirror.get(f"{web.url}/file", whole)
    assert part_of(mirror).read_bytes() == b""


def test_partial_files_are_private(web, mirror):
    mirror.get(f"{web.url}/file", whole)

    assert stat.S_IMODE(mirror.partial.stat().st_mode) == 0o700


def test_work_is_stopped_in_time_and_its_errors_are_raised():
    waited = threading.Event()
    with pytest.raises(Unavailable, match="^it is too slow: stopped after 0.1 s"):
        within(0.1, lambda: waited.wait(5), "it")
    waited.set()

    assert within(5, lambda: "done", "it") == "done"
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0, "it")


@pytest.mark.parametrize("address", ["http://me:word@[/f", "{}/none?key=token"])
def test_errors_show_no_password_or_token(web, mirror, address):
    address = address.format(web.url.replace("//", "//me:word@"))

    with pytest.raises(BadInput) as refused:
        mirror.get(address, whole)
    assert "***" in str(refused.value)
    for secret in ("word", "token"):
        assert secret not in str(refused.value)
