import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from samples import compress
from webserver import serving, status

from tasks.rawdata.idx import FILES
from tasks.runtime.params import BadInput
from tasks.sources import fetch
from tasks.sources.fetch import Unavailable, fetch_files

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = FILES


@pytest.fixture
def digits(digits):
    """Return the first images of each file."""
    return {name: values[:60] for name, values in digits.items()}


@pytest.fixture
def contents(raw):
    return {name: (raw / name).read_bytes() for name in FILES}


@pytest.fixture
def want(contents, tmp_path):
    """Return the arguments of `fetch_files` after the source."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    return {"sha256": hashes, "timeout": 5, "partial": tmp_path / ".partial"}


@pytest.fixture
def pickled(digits):
    """Return the small data set as the lesson's mnist.pkl.gz."""
    train, labels, test, test_labels = (digits[name] for name in FILES)
    tree = tuple(
        (i.reshape(len(i), -1) / np.float32(256), k.astype(np.int64))
        for i, k in [
            (train[:40], labels[:40]),
            (train[40:], labels[40:]),
            (test, test_labels),
        ]
    )
    return compress(pickle.dumps(tree, protocol=2), 1)


def served(contents, *, zipped=True):
    if zipped:
        return {f"/m/{name}.gz": compress(data) for name, data in contents.items()}
    return {f"/m/{name}": data for name, data in contents.items()}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_mirror_serves_the_files_zipped_or_not(contents, want, zipped):
    with serving(served(contents, zipped=zipped)) as web:
        assert fetch_files(f"{web.url}/m/", **want) == contents
        assert fetch_files(f"{web.url}/m", **want) == contents


def test_a_file_missing_on_a_mirror_is_named(contents, want):
    pages = served(contents)
    del pages[f"/m/{TEST_LABELS}.gz"]
    with (
        serving(pages) as web,
        pytest.raises(BadInput, match=f"/m/{TEST_LABELS} answered 404"),
    ):
        fetch_files(f"{web.url}/m/", **want)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"<!DOCTYPE html><title>Sign in", "begin with b'<!DOCTYPE ht', have the SHA"),
        (b"\0\0\x08\x01\0\0\0\x01\x07", "its 9 bytes, which begin with"),
        (compress(b"another"), "its 7 bytes, which begin with b'another'"),
        (compress(b"cut short")[:-9], "is not a complete gzip file"),
        (
            compress(b"damaged")[:-8] + bytes(8),
            "is not a complete gzip file: .*incorrect data",
        ),
        (compress(b"") + b"more", "is not a complete gzip file"),
        (compress(bytes(1_000_001)), "unpacks to more than 1,000,000 bytes"),
    ],
)
def test_a_wrong_file_on_a_mirror_is_refused(
    contents, want, monkeypatch, content, sentence
):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    pages = {**served(contents), f"/m/{IMAGES}.gz": content}
    with (
        serving(pages) as web,
        pytest.raises(BadInput, match=f"/m/{IMAGES}.gz .*{sentence}"),
    ):
        fetch_files(f"{web.url}/m/", **want)


def test_a_mirror_is_not_used_after_a_failure(contents, want):
    pages = {**served(contents), f"/m/{LABELS}.gz": status(503)}
    with serving(pages) as web, pytest.raises(Unavailable, match="503"):
        fetch_files(f"{web.url}/m/", **want)
    assert [path for path, _ in web.asked] == [f"/m/{IMAGES}.gz", f"/m/{LABELS}.gz"]


def test_files_received_before_a_failure_are_not_downloaded_again(contents, want):
    pages = {**served(contents), f"/m/{LABELS}.gz": status(503)}
    with serving(pages) as web:
        with pytest.raises(Unavailable):
            fetch_files(f"{web.url}/m/", **want)
        web.pages.update(served(contents))
        assert fetch_files(f"{web.url}/m/", **want) == contents
    assert [path for path, _ in web.asked].count(f"/m/{IMAGES}.gz") == 1


def test_a_slow_mirror_is_given_up_after_the_patience(contents, want, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 0.0)
    with (
        serving(served(contents)) as web,
        pytest.raises(Unavailable, match="too slow"),
    ):
        fetch_files(f"{web.url}/m/", **want)


def drip(handler):
    """Send headers one byte at a time, each well before the timeout."""
    for byte in b"HTTP/1.1 200 OK\r\nA: " + b"x" * 80:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def not_yet(handler):
    """Send "100 Continue" for three seconds."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)


@pytest.mark.parametrize("page", [drip, not_yet])
def test_endless_headers_are_given_up_after_the_patience(want, monkeypatch, page):
    monkeypatch.setattr(fetch, "PATIENCE", 0.5)
    start = time.monotonic()
    with (
        serving({f"/m/{IMAGES}.gz": page}) as web,
        pytest.raises(Unavailable, match="/m/ is too slow: stopped after 0.5 s"),
    ):
        fetch_files(f"{web.url}/m/", **want)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("where", ["web", "path"])
def test_the_four_files_are_made_from_the_lessons_pickle(
    contents, want, pickled, tmp_path, where
):
    (tmp_path / "mnist.pkl.gz").write_bytes(pickled)
    with serving({"/mnist.pkl.gz": pickled}) as web:
        folder = {"web": web.url, "path": tmp_path}[where]
        assert fetch_files(f"{folder}/mnist.pkl.gz", **want) == contents


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no gzip", "is not a complete gzip file"),
        (compress(b"cposix\nsystem\n."), "it asks for posix.system"),
        (compress(bytes(1001)), "unpacks to more than 1,000 bytes"),
    ],
)
def test_another_pickle_is_refused(want, tmp_path, monkeypatch, content, sentence):
    monkeypatch.setattr(fetch.lesson_pickle, "MAX_BYTES", 1000)
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(content)

    with pytest.raises(BadInput, match=f"{path} .*{sentence}"):
        fetch_files(str(path), **want)


def test_a_pickle_of_other_images_is_refused(want, pickled, tmp_path):
    (tmp_path / "mnist.pkl.gz").write_bytes(pickled)
    want["sha256"][TEST_LABELS] = "0" * 64

    with pytest.raises(BadInput, match=f"^{TEST_LABELS} of .*mnist.pkl.gz is another"):
        fetch_files(str(tmp_path / "mnist.pkl.gz"), **want)


def test_a_local_folder_may_hold_gzipped_files(contents, want, raw):
    assert fetch_files(str(raw), **want) == contents
    for name in (IMAGES, TEST_LABELS):
        (raw / name).unlink()
        (raw / f"{name}.gz").write_bytes(compress(contents[name]))
    assert fetch_files(f"{raw}/", **want) == contents


def test_a_file_missing_in_a_local_folder_is_named(want, raw):
    (raw / LABELS).unlink()

    with pytest.raises(BadInput, match=f"{raw} has neither {LABELS} nor {LABELS}.gz"):
        fetch_files(str(raw), **want)


@pytest.mark.parametrize("source", ["ftp://host/folder", "s3://bucket", "mnist"])
def test_an_unsupported_source_is_refused(want, source):
    with pytest.raises(
        BadInput, match=r"A source is .*https://.*, npm:name@version or"
    ):
        fetch_files(source, **want)


def test_large_files_and_pipes_in_a_local_folder_are_refused(want, raw, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 10_000)
    with pytest.raises(BadInput, match=f"{IMAGES} has more than 10,000 bytes"):
        fetch_files(str(raw), **want)

    (raw / IMAGES).unlink()
    os.mkfifo(raw / IMAGES)  # opening it would block
    with pytest.raises(BadInput, match=f"{IMAGES} is .*file"):
        fetch_files(str(raw), **want)


def archive(members):
    """Return a package as packed by npm: path -> bytes or TarInfo."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for path, member in members.items():
            info = member
            if isinstance(member, bytes):
                info = tarfile.TarInfo(path)
                info.size = len(member)
            content = member if isinstance(member, bytes) else b""
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Return a function that installs an npm which records its arguments."""

    def install(package=b"", script='cp "$NPM_PACKAGE" name-1.2.6.tgz'):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "package.tgz").write_bytes(package)
        monkeypatch.setenv("NPM_PACKAGE", str(folder / "package.tgz"))
        monkeypatch.setenv("NPM_CALL", str(folder / "call.json"))
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        note = 'printf \'["%s"\' "$PWD" >"$NPM_CALL"; for a; do printf \',"%s"\' "$a"; '
        note += 'done >>"$NPM_CALL"; echo "]" >>"$NPM_CALL"\n'
        (folder / "npm").write_text("#!/bin/sh\n" + note + script + "\n")
        (folder / "npm").chmod(0o755)
        return folder / "call.json"

    return install


def package_of(contents):
    return {f"package/data/{name}": data for name, data in contents.items()}


def test_the_four_files_are_read_from_an_npm_package(contents, want, npm):
    extra = {"package/package.json": b"{}", "../evil": b"not extracted"}
    call = npm(archive(extra | package_of(contents)))

    assert fetch_files("npm:name@1.2.6", **want) == contents

    folder, *arguments = json.loads(call.read_text())
    assert arguments[:2] == ["pack", "--ignore-scripts"]
    assert arguments[2:] == [
        "--fetch-retries=0",
        "--fetch-timeout=5000",
        "--",
        "name@1.2.6",
    ]
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    "source",
    [
        "npm:name",
        "npm:name@latest",
        "npm:--registry=host@1.2.6",
        "npm:name@1.2.6 other@1.0.0",
        "npm:git+ssh://host/name@1.2.6",
        "npm:../name@1.2.6",
        "npm:name@1.2.6\n",
    ],
)
def test_only_npm_packages_of_an_exact_version_are_requested(want, npm, source):
    call = npm()

    with pytest.raises(BadInput, match="is not npm:name@version"):
        fetch_files(source, **want)
    assert not call.exists()


@pytest.mark.parametrize("source", ["npm:@scope/name@1.2.6", "npm:name@1.2.6-rc.1"])
def test_a_package_may_have_a_scope_and_a_prerelease(contents, want, npm, source):
    npm(archive(package_of(contents)))

    assert fetch_files(source, **want) == contents


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        ("echo npm error code ENOTFOUND >&2; exit 1", Unavailable, "ENOTFOUND"),
        ("echo npm ERR! code ECONNREFUSED >&2; exit 1", Unavailable, "ECONNREFUSED"),
        ("echo npm error code E404 >&2; exit 1", BadInput, "E404"),
        ("echo npm error code ETARGET >&2; exit 1", BadInput, "ETARGET"),
        ("exit 7", Unavailable, "exit status 7"),
    ],
)
def test_the_error_of_npm_decides_whether_a_later_try_may_succeed(
    want, npm, script, kind, reason
):
    npm(script=script)

    with pytest.raises(
        BadInput, match=rf"can't be downloaded by npm \({reason}\)"
    ) as refused:
        fetch_files("npm:name@1.2.6", **want)
    assert type(refused.value) is kind


def test_npm_is_stopped_after_the_patience(want, npm, monkeypatch):
    npm(script="exec sleep 30")
    monkeypatch.setattr(fetch, "PATIENCE", 0.2)
    start = time.monotonic()

    with pytest.raises(Unavailable, match=r"npm took over 0.2 s"):
        fetch_files("npm:name@1.2.6", **want)
    assert time.monotonic() - start < 5


def test_only_the_error_code_of_npm_is_shown(want, npm, capfd):
    says = "npm error 401 https://me:word@host/?_authToken=token"
    npm(script=f"echo '{says}'; echo '{says}' >&2; exit 1")

    with pytest.raises(Unavailable, match=r"by npm \(exit status 1\)\.$"):
        fetch_files("npm:name@1.2.6", **want)
    assert capfd.readouterr() == ("", "")


def test_endless_output_of_npm_is_stopped(want, npm, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    npm(script="yes npm error code E404 >&2")

    # The system stops it when the file reaches its limit.
    with pytest.raises(BadInput, match=r"can't be downloaded by npm \(E404\)"):
        fetch_files("npm:name@1.2.6", **want)


def test_npm_writes_no_file_above_the_limit(want, npm, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    call = npm(script='head -c 9000000 /dev/zero >a.tgz && touch "$NPM_PACKAGE.all"')

    with pytest.raises(Unavailable, match="can't be downloaded by npm"):
        fetch_files("npm:name@1.2.6", **want)
    assert not call.with_name("package.tgz.all").exists()


@pytest.mark.slow
def test_npm_runs_no_script_of_a_package(want, tmp_path, monkeypatch):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    # Scripts would run only for a folder, which the same command packs.
    scripts = dict.fromkeys(("prepack", "prepare", "postpack"), "touch ran")
    package = {"name": "name", "version": "1.2.6", "scripts": scripts}
    (tmp_path / "package.json").write_text(json.dumps(package))
    monkeypatch.chdir(tmp_path)
    npm = shutil.which("npm")
    fetch._pack(npm, f"npm:{tmp_path}", 10, tmp_path)

    assert (tmp_path / "name-1.2.6.tgz").exists()
    assert not (tmp_path / "ran").exists()


def test_an_npm_package_needs_npm(want, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BadInput, match="needs npm, which is not installed"):
        fetch_files("npm:name@1.2.6", **want)


def entry(**fields):
    """Return a member of an archive without content."""
    info = tarfile.TarInfo(f"package/data/{LABELS}")
    for field, value in fields.items():
        setattr(info, field, value)
    return info


# One byte of content that announces 10^15 zeros.
SPARSE = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "1" + 15 * "0"}


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ({f"package/data/{LABELS}": b"others"}, f"{LABELS} of npm.* is another file"),
        (
            {f"package/data/{LABELS}": entry(type=tarfile.SYMTYPE, linkname="/etc/x")},
            f"lacks package/data/{LABELS}",
        ),
        (
            {f"package/data/{LABELS}": entry(pax_headers=SPARSE)},
            "its 0 bytes, which begin with",
        ),
        ({"package/bomb": bytes(3_000_001)}, "unpacks to more than 3,000,000 bytes"),
        ({f"package/{n}": b"" for n in range(1001)}, "has more than 1,000 entries"),
    ],
)
def test_an_npm_package_with_other_content_is_refused(
    contents, want, npm, monkeypatch, others, sentence
):
    monkeypatch.setattr(fetch, "MAX_BYTES", 2_000_000)
    monkeypatch.setattr(fetch, "MAX_PACKAGE_BYTES", 3_000_000)
    npm(archive(others | package_of(contents) | others))

    with pytest.raises(BadInput, match=sentence):
        fetch_files("npm:name@1.2.6", **want)


def long_names(count):
    """Return headers that each announce a long name in the next one."""
    info = entry(type=tarfile.GNUTYPE_LONGNAME)
    return compress(info.tobuf(tarfile.GNU_FORMAT) * count)


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        (b"no gzip", "is not a complete gzip file"),
        (b"", "is not a complete gzip file: it ends early"),
        (compress(b""), "lacks package/data/"),
        (compress(b"no archive" * 100), "is a damaged archive"),
        # tarfile would also decompress the inner one, to any size.
        (compress(compress(bytes(10_000))), "is a damaged archive"),
        (long_names(5000), "has more than 1,000 entries"),
    ],
)
def test_a_damaged_npm_package_is_refused(want, npm, package, sentence):
    npm(package)

    with pytest.raises(BadInput, match=f"npm:name@1.2.6 {sentence}"):
        fetch_files("npm:name@1.2.6", **want)


def test_an_npm_that_packs_nothing_is_refused(want, npm):
    npm(script="true")

    with pytest.raises(BadInput, match=r"npm wrote no archive"):
        fetch_files("npm:name@1.2.6", **want)
