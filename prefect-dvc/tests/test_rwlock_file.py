"""DVC's file of read and write locks is never half written, and repaired if it is."""

import errno
import json
from pathlib import Path

import pytest
from dvc import rwlock

from prefect_dvc import atomic_files
from prefect_dvc.dvc_repo import DvcRepo
from prefect_dvc.errors import ProjectError
from prefect_dvc.options import RunOptions
from prefect_dvc.results import Outcome

# DVC's own, when it looks up the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
RWLOCK = Path(".dvc/tmp/rwlock")


def opened_repo(project):
    return DvcRepo(project.root, RunOptions(), wait=False, pause=lambda _: None)


def test_a_killed_writer_leaves_the_file_as_it_was(built, monkeypatch):
    repo = opened_repo(built)
    repo.select()
    with repo.opened("first", force=True):
        before = RWLOCK.read_bytes()
        assert json.loads(before)["write"]

        def killed(_content, file):
            file.write("{")
            file.flush()
            raise SystemExit

        monkeypatch.setattr(rwlock.json, "dump", killed)
        with pytest.raises(SystemExit), repo.opened("last"):
            pass
        assert RWLOCK.read_bytes() == before
        monkeypatch.undo()


@pytest.mark.parametrize("half", ["", '{"write": {"/a'])
def test_a_file_half_written_by_dvc_does_not_stop_a_run(built, half):
    RWLOCK.write_text(half)
    repo = opened_repo(built)
    assert list(repo.select()) == ["first", "each@a", "each@b", "last"]
    with repo.opened("first") as stage:
        assert stage.outcome is Outcome.UNCHANGED
    assert built.repro() == []


def test_repair_keeps_the_locks_of_a_running_command(built):
    with opened_repo(built).opened("first", force=True):
        before = RWLOCK.read_bytes()
        opened_repo(built).select()
        assert RWLOCK.read_bytes() == before


def test_locks_are_released_on_a_full_disk(built, monkeypatch):
    repo = opened_repo(built)
    repo.select()
    write_bytes = Path.write_bytes

    def full(path, content):
        if path.name == "rwlock.draft":
            write_bytes(path, b"")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    with repo.opened("first", force=True):
        assert json.loads(RWLOCK.read_bytes())["write"]
        monkeypatch.setattr(Path, "write_bytes", full)
        with (
            pytest.raises(
                ProjectError,
                match="^.dvc/tmp/rwlock: No space left on device$",
            ),
            repo.opened("each@a", force=True),
        ):
            pass
    assert not any(json.loads(RWLOCK.read_bytes()).values())
    assert not RWLOCK.with_name("rwlock.draft").exists()


def test_a_lock_that_cannot_be_released_does_not_hide_the_failure(built, monkeypatch):
    def refused(_path):
        raise PermissionError

    def fail():
        with opened_repo(built).opened("first", force=True):
            monkeypatch.setattr(atomic_files, "_written_whole", refused)
            raise EOFError

    with pytest.raises(EOFError):
        fail()
