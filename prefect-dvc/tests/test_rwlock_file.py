"""DVC's note of who works on which files: never half, and mended if it is."""

import errno
import json
from pathlib import Path

import pytest
from dvc import rwlock

from prefect_dvc import rwlock_file
from prefect_dvc.dvc_repo import Ledger, LedgerError

# DVC asks pygtrie so for the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
NOTE = Path(".dvc/tmp/rwlock")


def ledger(project):
    return Ledger(project.root, wait=False, pause=lambda _: None)


def test_a_killed_writer_leaves_the_note_as_it_was(built, monkeypatch):
    book = ledger(built)
    book.plan()
    with book.entry("first", force=True):
        before = NOTE.read_bytes()
        assert json.loads(before)["write"]

        def killed(_content, file):
            file.write("{")
            file.flush()
            raise SystemExit

        monkeypatch.setattr(rwlock.json, "dump", killed)
        with pytest.raises(SystemExit), book.entry("last"):
            pass
        assert NOTE.read_bytes() == before
        monkeypatch.undo()


@pytest.mark.parametrize("half", ["", '{"write": {"/a'])
def test_what_a_killed_dvc_left_does_not_stop_a_flow(built, half):
    NOTE.write_text(half)
    book = ledger(built)
    assert list(book.plan()) == ["first", "each@a", "each@b", "last"]
    with book.entry("first") as entry:
        assert entry.unchanged == "unchanged"
    assert built.repro() == []


def test_a_note_of_somebody_at_work_is_left_alone(built):
    with ledger(built).entry("first", force=True):
        before = NOTE.read_bytes()
        ledger(built).plan()
        assert NOTE.read_bytes() == before


def test_a_claim_is_given_back_on_a_full_disk(built, monkeypatch):
    book = ledger(built)
    book.plan()
    write_text = Path.write_text

    def full(path, content, **options):
        if path.name == "rwlock.draft":
            write_text(path, "")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_text(path, content, **options)

    with book.entry("first", force=True):
        assert json.loads(NOTE.read_bytes())["write"]
        monkeypatch.setattr(Path, "write_text", full)
        with (
            pytest.raises(
                LedgerError,
                match="^.dvc/tmp/rwlock: No space left on device$",
            ),
            book.entry("each@a", force=True),
        ):
            pass
    assert not any(json.loads(NOTE.read_bytes()).values())
    assert not NOTE.with_name("rwlock.draft").exists()


def test_a_claim_that_cannot_be_given_back_hides_no_failure(built, monkeypatch):
    def refused(_path):
        raise PermissionError

    def fail():
        with ledger(built).entry("first", force=True):
            monkeypatch.setattr(rwlock_file, "_whole", refused)
            raise EOFError

    with pytest.raises(EOFError):
        fail()
