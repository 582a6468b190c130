import io
import tarfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import compress

from tasks.runtime.params import BadInput
from tasks.sources import archives

NAMES = frozenset({"package/data/a", "package/data/b"})


def test_gzip_is_decompressed_up_to_the_limit():
    packed = compress(bytes(1000))

    assert archives.gunzip(packed, 1000, "file") == bytes(1000)
    with pytest.raises(BadInput, match="^file unpacks to more than 999 bytes"):
        archives.gunzip(packed, 999, "file")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "it ends early"),
        (b"no gzip", "incorrect header check"),
        (zlib.compress(b"zlib"), "incorrect header check"),
        (compress(b"whole")[:-1], "it ends early"),
        (compress(b"whole")[:-5] + bytes(5), "incorrect"),
        (compress(b"whole") + b"more", "data follows its end"),
        (compress(b"one") + compress(b"two"), "data follows its end"),
        # An endless name in the header, and a megabyte of empty files.
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 1_000_000, "it ends early"),
        (compress(b"") * 50_000, "data follows its end"),
    ],
)
def test_a_damaged_gzip_file_is_refused(content, fault):
    with pytest.raises(BadInput, match=f"^file is not a complete gzip file: .*{fault}"):
        archives.gunzip(content, 1000, "file")


def archive(*members, form=tarfile.USTAR_FORMAT):
    """Return a tar archive of (name, content) or TarInfo."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return packed.getvalue()


def entry(kind, name="package/data/a", link="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_files_are_found_by_name_among_others(form):
    packed = archive(
        ("package/" + "long/" * 25 + "name", b"ignored"),
        ("package/data/a", b"a" * 1000),
        ("../evil", b"not extracted"),
        ("evil" * 25 + "/package/data/a", b"the path is in two fields"),
        ("package/data/b", b""),
        form=form,
    )

    found = archives.members(packed, NAMES, "archive")
    assert found == {"package/data/a": b"a" * 1000, "package/data/b": b""}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_last_of_two_files_of_one_name_is_returned(name):
    packed = archive((name, b"first"), (name, b"last"))

    assert archives.members(packed, NAMES, "archive") == {name: b"last"}


@pytest.mark.parametrize(
    "kind",
    [
        *(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
        *(tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE),
    ],
)
def test_links_devices_and_directories_in_archives_are_ignored(kind):
    assert archives.members(archive(entry(kind)), NAMES, "archive") == {}


@pytest.mark.parametrize(
    "name", ["/package/data/a", "./package/data/a", "package/data/../data/a"]
)
def test_names_in_archives_are_not_resolved_as_paths(name):
    assert archives.members(archive((name, b"x")), NAMES, "archive") == {}


def with_size(digits):
    """Return an archive whose header has another size and the right checksum."""
    header = bytearray(archive(("package/data/a", b"abc"))[:1024])
    header[124:136] = digits.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


@pytest.mark.parametrize(
    "content",
    [
        *(b"x", b"x" * 512, archive(("package/data/a", b"abc"))[:514]),
        with_size(b"77777777777"),
        with_size(b"-1"),
        with_size(b"8"),
        with_size(b""),
        with_size(b"\x80\xff\xff\xff\xff\xff\xff\xff"),  # GNU's encoding of large sizes
        archive(("package/data/a", b"abc")).replace(b"data/a", b"data/b", 1),
    ],
)
def test_a_broken_archive_is_refused(content):
    with pytest.raises(BadInput, match="^archive is a damaged archive"):
        archives.members(content, NAMES, "archive")


def test_an_archive_of_too_many_entries_is_refused():
    packed = archive(*((f"{number}", b"") for number in range(1000)))

    with pytest.raises(BadInput, match="^archive has more than 1,000 entries"):
        archives.members(packed, NAMES, "archive")


def test_an_extended_header_is_skipped_quickly():
    # Before Python 3.11.10, tarfile needs days to search it for numbers.
    info = tarfile.TarInfo("digits")
    info.type, info.size = tarfile.XHDTYPE, 20_000_000
    packed = info.tobuf(tarfile.USTAR_FORMAT) + b"1" * info.size
    packed += bytes(-len(packed) % 512) + archive(("package/data/a", b"x"))

    assert archives.members(packed, NAMES, "archive") == {"package/data/a": b"x"}


@given(st.binary(max_size=2000) | st.binary(max_size=40).map(with_size))
def test_any_bytes_are_read_or_refused(content):
    for read in (
        lambda: archives.members(content, NAMES, "noise"),
        lambda: archives.gunzip(content, 1000, "noise"),
    ):
        try:
            read()
        except BadInput as refused:
            assert str(refused).startswith("noise ")  # noqa: PT017  or it is read
