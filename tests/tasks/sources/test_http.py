import gzip
import socket
import ssl
import stat
import threading
import time
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
from tasks.sources.http import Mirror, Missing, Session, Unavailable, within


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


@pytest.mark.parametrize("page", [stall, silence])
def test_silence_is_borne_for_the_timeout_only(web, mirror, page):
    web.pages["/file"] = page
    start = time.monotonic()

    with pytest.raises(Unavailable, match=r"/file gave no answer for 0.2 s"):
        mirror.get(f"{web.url}/file", whole)
    assert time.monotonic() - start < 3


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
def certified(tmp_path, monkeypatch):
    """Make a server's side of TLS, and the file by which its certificate is trusted."""
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


def test_a_certificate_that_somebody_trusted_signed_is_taken(certified, mirror):
    tls, mirror.session.verify = certified()
    with serving({"/file": CONTENT}, tls) as web:
        assert mirror.get(f"{web.url}/file", whole) == CONTENT


@pytest.mark.parametrize("fault", [{"address": "127.0.0.2"}, {"days": -1}, None])
def test_a_certificate_of_another_host_or_time_or_nobody_is_not(
    certified, mirror, fault
):
    tls, trusted = certified(**fault or {})
    if fault:
        mirror.session.verify = trusted
    with (
        serving({"/file": CONTENT}, tls) as web,
        pytest.raises(Unavailable, match="is not who its certificate says"),
    ):
        mirror.get(f"{web.url}/file", whole)
    assert web.asked == []


def test_where_tls_was_asked_for_nothing_else_is_taken(web, mirror):
    with pytest.raises(Unavailable, match="is not who its certificate says, or has no"):
        mirror.get(web.url.replace("http:", "https:") + "/file", whole)


@pytest.mark.parametrize("url", ["http://", "http://[/file", "http://host:x/file"])
def test_what_is_no_address_is_refused_for_good(mirror, url):
    with pytest.raises(BadInput, match="can't be asked for") as refused:
        mirror.get(url, whole)
    assert not isinstance(refused.value, Unavailable)


@pytest.mark.parametrize("target", ["/file", "file", "{}/file"])
def test_a_redirect_leads_to_the_file(web, mirror, target):
    web.pages["/moved"] = moved(target.format(web.url))

    assert mirror.get(f"{web.url}/moved", whole) == CONTENT


@pytest.mark.parametrize(
    "target",
    [
        *("file:///etc/hostname", "ftp://127.0.0.1/file", "data:,x", "javascript:x"),
        *("http://[", "http://host:99999/", "\xff\xfe://"),
    ],
)
def test_a_redirect_leads_to_the_web_and_nowhere_else(web, mirror, target):
    web.pages["/moved"] = moved(target)

    with pytest.raises(BadInput, match="/moved can't be asked for|/moved answered 404"):
        mirror.get(f"{web.url}/moved", whole)


def test_redirects_without_end_are_followed_five_times(web, mirror):
    web.pages["/moved"] = moved("/moved")

    with pytest.raises(BadInput, match="/moved redirects more than 5 times"):
        mirror.get(f"{web.url}/moved", whole)
    assert len(web.asked) == 6


def test_a_redirect_does_not_lead_out_of_tls(certified, web, mirror):
    tls, mirror.session.verify = certified()
    with (
        serving({"/moved": moved(f"{web.url}/file")}, tls) as safe,
        pytest.raises(BadInput, match="/moved redirects to what is not https"),
    ):
        mirror.get(f"{safe.url}/moved", whole)
    assert web.asked == []


def test_what_a_redirect_says_besides_is_not_read(web, mirror):
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
LIES = {
    "reset at once": (raw(reset=True), Unavailable, "can't be reached|broke off"),
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
        "broke off",
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
    "no chunk": (raw(CHUNKED, b"zz\r\n"), Unavailable, "broke off"),
    "a negative chunk": (raw(CHUNKED, b"-5\r\nabc"), Unavailable, "broke off"),
    "half a chunk": (raw(CHUNKED, b"ff\r\nabc"), Unavailable, "broke off"),
    "a chunk without end": (
        raw(CHUNKED, b"1;" + b"x" * 999_999),
        Unavailable,
        "broke off",
    ),
    "half of it, then a reset": (
        raw(OK, b"Content-Length: 256000\r\n\r\n", CONTENT[:9], reset=True),
        Unavailable,
        "broke off",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_whatever_a_server_says_is_refused_in_one_sentence(web, mirror, lie):
    web.pages["/file"], kind, sentence = LIES[lie]

    with pytest.raises(BadInput, match=f"^{web.url}/file .*({sentence})") as refused:
        mirror.get(f"{web.url}/file", whole)
    assert type(refused.value) is kind


@pytest.mark.parametrize("length", [b"", b"Content-Length: -5\r\n"])
def test_a_length_that_says_nothing_is_not_missed(web, mirror, length):
    web.pages["/file"] = raw(OK, length, b"\r\n", CONTENT)

    assert mirror.get(f"{web.url}/file", whole) == CONTENT


def test_the_words_of_an_answer_are_not_the_servers(web, mirror):
    web.pages["/file"] = raw(b"HTTP/1.1 404 \x1b[2JWelcome\r\n\r\n")
    with pytest.raises(Missing, match="/file answered 404 Not Found.$"):
        mirror.get(f"{web.url}/file", whole)

    web.pages["/file"] = raw(b"HTTP/1.1 499 Welcome\r\n\r\n")
    with pytest.raises(BadInput, match="/file answered 499, not the file"):
        mirror.get(f"{web.url}/file", whole)


@pytest.mark.parametrize("other", [bytes(156_000), CONTENT[100_001:] + b"x", b""])
def test_a_continuation_of_another_file_is_discarded(web, mirror, other):
    def lying(handler):
        if not handler.headers["Range"]:
            return answer(handler, CONTENT)
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 100000-255999/256000")
        handler.send_header("Content-Length", str(len(other)))
        handler.end_headers()
        return handler.wfile.write(other)

    web.pages["/file"] = cut
    with pytest.raises(Unavailable, match="/file broke off"):
        mirror.get(f"{web.url}/file", whole)
    web.pages["/file"] = lying

    assert mirror.get(f"{web.url}/file", whole) == CONTENT
    assert [wanted for _, wanted in web.asked] == [None, "bytes=100000-", None]


def test_what_was_given_up_writes_no_more(web, tmp_path):
    with Session() as session:
        mirror = Mirror(session, 5, time.monotonic() - 1, 300_000, tmp_path)
        with pytest.raises(Unavailable, match="is too slow"):
            mirror.get(f"{web.url}/file", whole)
    assert part_of(mirror).read_bytes() == b""


def test_what_came_is_for_the_user_alone(web, mirror):
    mirror.get(f"{web.url}/file", whole)

    assert stat.S_IMODE(mirror.partial.stat().st_mode) == 0o700


def test_work_is_given_up_when_its_time_is_over_and_its_error_is_raised():
    waited = threading.Event()
    with pytest.raises(Unavailable, match="^it is too slow: given up after 0.1 s"):
        within(0.1, lambda: waited.wait(5), "it")
    waited.set()

    assert within(5, lambda: "done", "it") == "done"
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0, "it")


@pytest.mark.parametrize("address", ["http://me:word@[/f", "{}/none?key=token"])
def test_no_sentence_shows_a_password_or_a_token(web, mirror, address):
    address = address.format(web.url.replace("//", "//me:word@"))

    with pytest.raises(BadInput) as refused:
        mirror.get(address, whole)
    assert "***" in str(refused.value)
    for secret in ("word", "token"):
        assert secret not in str(refused.value)
