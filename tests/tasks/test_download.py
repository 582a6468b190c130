import gzip
import hashlib
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import faulty_pages
import numpy as np
import pytest
import yaml
from webserver import serving

from tasks.download import Download, download
from tasks.rawdata.idx import FILES
from tasks.runtime import params
from tasks.runtime.params import BadInput
from tasks.sources import fetch
from tasks.sources.http import Unavailable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def digits(digits):
    """Return the first images of each file."""
    return {name: values[:60] for name, values in digits.items()}


@pytest.fixture
def contents(raw):
    return {name: (raw / name).read_bytes() for name in FILES}


@pytest.fixture
def wanted(card, contents):
    """Return section `download` of MNIST's dataset card, for the small data set."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    return card["download"] | {"sha256": hashes, "timeout": 5}


@pytest.fixture
def dead():
    """Return the address of a closed port."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{closed.getsockname()[1]}/mnist/"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data/raw"


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_dataset_card_of_mnist_is_complete():
    section = params.load("download", Download, ROOT / "datasets" / "mnist.yaml")

    assert tuple(section.sha256) == FILES
    assert section.sources


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sources": []}, r"`download.sources` is \[\], but"),
        ({"sources": [""]}, r"`download.sources.0` is ''"),
        ({"timeout": 0}, "`download.timeout` is 0, but"),
        ({"timeout": float("inf")}, "`download.timeout` is inf, but"),
        ({"sha256": dict.fromkeys(FILES, "abc")}, "sha256.t10k-labels.*` is 'abc'"),
        ({"sha256": dict.fromkeys(FILES, "A" * 64)}, "sha256.t10k-labels.* is 'AAA"),
        ({"sha256": dict.fromkeys(FILES[1:], "0" * 64)}, "at least 4 items"),
        ({"sha256": dict.fromkeys((*FILES, "../x"), "0" * 64)}, "is '../x', but"),
        ({"mirror": "host"}, "`download.mirror` is not a known key"),
        ({"timeout": 301}, "`download.timeout` is 301, but"),
        ({"timeout": "10"}, "`download.timeout` is '10', but"),
    ],
)
def test_each_invalid_setting_is_named(tmp_path, card, change, sentence):
    path = tmp_path / "mnist.yaml"
    path.write_text(yaml.safe_dump({"download": card["download"] | change}))

    with pytest.raises(BadInput, match=sentence):
        params.load("download", Download, path)


@pytest.mark.parametrize(
    "sources",
    [
        ["https://me:word@host/mnist/"],
        ["https://token@host/mnist/"],
        ["https://me:pass word@host/mnist/"],
        ["https://host/mnist/?key=a token"],
        ["https://host/mnist.pkl.gz?key=token"],
        # Also if something else is invalid.
        "https://me:word@host/mnist/?key=token",
        {"https://me:word@host/mnist/": 1},
    ],
)
def test_a_secret_in_a_source_is_refused_and_not_shown(tmp_path, card, sources):
    path = tmp_path / "mnist.yaml"
    path.write_text(
        yaml.safe_dump({"download": card["download"] | {"sources": sources}})
    )

    with pytest.raises(
        BadInput, match=r"`download.sources.*(~/.netrc|\*\*\*)"
    ) as refused:
        params.load("download", Download, path)
    for secret in ("word", "token"):
        assert secret not in str(refused.value).replace("a password", "")


def as_folder(raw, **_):
    return str(raw)


def as_zipped_folder(contents, tmp_path, **_):
    folder = tmp_path / "zipped"
    folder.mkdir()
    for name, data in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, 1))
    return str(folder)


def as_mirror(contents, web, **_):
    web.pages.update({f"/{name}": data for name, data in contents.items()})
    return web.url


def as_pickle(digits, tmp_path, **_):
    train, labels, test, test_labels = (digits[name] for name in FILES)
    splits = [(train[:9], labels[:9]), (train[9:], labels[9:]), (test, test_labels)]
    tree = tuple(
        (i.reshape(-1, 784) / np.float32(256), k.astype(np.int64)) for i, k in splits
    )
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(pickle.dumps(tree, protocol=2), 1))
    return str(path)


@pytest.mark.parametrize("make", [as_folder, as_zipped_folder, as_mirror, as_pickle])
def test_every_source_gives_the_same_bytes(
    raw, contents, digits, wanted, target, tmp_path, make
):
    with serving({}) as web:
        source = make(
            raw=raw, contents=contents, digits=digits, tmp_path=tmp_path, web=web
        )
        served = download(Download(**wanted | {"sources": [source]}), target)

    assert served == source
    assert contents_of(target) == contents
    assert not (target.parent / ".partial").exists()


def test_sources_are_tried_in_order_until_one_serves(
    raw, wanted, target, dead, tmp_path, capsys
):
    sources = [dead, str(tmp_path / "none"), str(raw), "never asked"]

    assert download(Download(**wanted | {"sources": sources}), target) == str(raw)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"skipped: {dead}train-images-idx3-ubyte.gz can't be reached "
        "(NewConnectionError)."
    )
    assert lines[1].startswith(f"skipped: {tmp_path}/none has neither ")
    assert lines[2:] == [f"{target}: 4 files from {raw}."]


BAD = {
    "a sign-in page": b"<!DOCTYPE html><title>Sign in</title>",
    "another file": gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x07"),
    "a bomb": gzip.compress(bytes(60_000_000)),
    "nothing": b"",
    "no end": faulty_pages.chunked_without_end,
    "a stall": faulty_pages.stall,
    "a trickle": faulty_pages.trickle,
    "silence": faulty_pages.silence,
    "half of it": faulty_pages.cut,
    "a reset": faulty_pages.raw(reset=True),
    "no HTTP": faulty_pages.raw(b"\0\r\n\r\n"),
    "a circle": faulty_pages.moved(f"/m/{FILES[0]}.gz"),
    "a local file": faulty_pages.moved("file:///etc/hostname"),
}


@pytest.mark.parametrize("page", BAD)
def test_a_bad_mirror_is_skipped_for_the_next_source(
    raw, contents, wanted, target, monkeypatch, capsys, page
):
    monkeypatch.setattr(fetch, "PATIENCE", 2.0)
    with serving({f"/m/{FILES[0]}.gz": BAD[page]}) as web:
        some = [f"{web.url}/m/", str(raw)]
        section = Download(**wanted | {"sources": some, "timeout": 0.2})
        assert download(section, target) == str(raw)

    assert contents_of(target) == contents
    assert [path.name for path in target.parent.iterdir()] == ["raw"]
    skipped, done = capsys.readouterr().out.splitlines()
    assert skipped.startswith(f"skipped: {web.url}/m/")
    assert done == f"{target}: 4 files from {raw}."


def test_existing_files_are_not_downloaded_again(raw, wanted, dead, capsys):
    before = {path: path.stat().st_mtime_ns for path in raw.iterdir()}

    assert download(Download(**wanted | {"sources": [dead]}), raw) == str(raw)

    assert {path: path.stat().st_mtime_ns for path in raw.iterdir()} == before
    assert capsys.readouterr().out == f"{raw}: the four files are already there.\n"


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b"x"), Path.unlink])
def test_damaged_or_missing_files_are_replaced(raw, contents, wanted, target, damage):
    section = Download(**wanted | {"sources": [str(raw)]})
    download(section, target)
    damage(target / FILES[2])

    assert download(section, target) == str(raw)
    assert contents_of(target) == contents


def test_no_file_is_written_unless_all_four_are_right(raw, wanted, target, contents):
    target.mkdir(parents=True)
    (target / FILES[0]).write_bytes(b"as it was")
    (raw / FILES[3]).write_bytes(contents[FILES[3]][:-1] + b"\x63")

    with pytest.raises(BadInput, match=f"{FILES[3]} is another file"):
        download(Download(**wanted | {"sources": [str(raw)]}), target)
    assert contents_of(target) == {FILES[0]: b"as it was"}


def test_a_folder_with_other_files_is_refused_and_unchanged(raw, wanted, target):
    target.mkdir(parents=True)
    (target / "notes.txt").write_text("mine")

    with pytest.raises(BadInput, match=r"raw holds other files \(notes\.txt\)"):
        download(Download(**wanted | {"sources": [str(raw)]}), target)
    assert contents_of(target) == {"notes.txt": b"mine"}


def test_a_failure_is_temporary_if_a_source_may_become_available(
    wanted, target, dead, tmp_path
):
    sources = [dead, f"{tmp_path}/none"]

    with pytest.raises(Unavailable, match="No source has the data: ") as failure:
        download(Download(**wanted | {"sources": sources}), target)
    assert failure.value.exit_code == os.EX_TEMPFAIL
    for source in sources:
        assert source in str(failure.value)
    assert "Try again later, or name another one" in str(failure.value)
    assert not target.exists()


def test_a_failure_is_permanent_if_no_source_can_have_the_files(
    wanted, target, tmp_path
):
    with pytest.raises(
        BadInput, match=r"No source has the data: .* Name another"
    ) as refused:
        download(Download(**wanted | {"sources": [f"{tmp_path}/none"]}), target)
    assert not isinstance(refused.value, Unavailable)
    assert refused.value.exit_code == 1


def test_the_next_run_resumes_a_broken_transfer(wanted, target, contents):
    pages = {f"/m/{name}.gz": gzip.compress(data) for name, data in contents.items()}
    whole = pages[f"/m/{FILES[0]}.gz"]

    def cut(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(whole)))
        handler.end_headers()
        handler.wfile.write(whole[:1000])

    with serving({**pages, f"/m/{FILES[0]}.gz": cut}) as web:
        section = Download(**wanted | {"sources": [f"{web.url}/m/"]})
        with pytest.raises(Unavailable, match="incomplete"):
            download(section, target)
        web.pages.update(pages)
        download(section, target)

    assert web.asked[:2] == [
        (f"/m/{FILES[0]}.gz", None),
        (f"/m/{FILES[0]}.gz", "bytes=1000-"),
    ]
    assert contents_of(target) == contents


@pytest.mark.parametrize(("there", "code"), [(True, 0), (False, 75)])
def test_the_command_downloads_into_the_current_folder(
    raw, wanted, card, dead, tmp_path, there, code
):
    sources = [dead, str(raw)] if there else [dead]
    (tmp_path / "params.yaml").write_text("dataset: small")
    (tmp_path / "datasets").mkdir()
    text = yaml.safe_dump(card | {"download": wanted | {"sources": sources}})
    (tmp_path / "datasets" / "small.yaml").write_text(text)

    done = subprocess.run(
        [sys.executable, "-m", "tasks.download"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code
    if there:
        assert contents_of(tmp_path / "data/raw") == contents_of(raw)
        assert done.stdout.endswith(f"data/raw: 4 files from {raw}.\n")
        assert done.stderr == ""
    else:
        assert done.stderr.startswith("tasks.download: No source has the data: ")
        assert done.stderr.count("\n") == 1
