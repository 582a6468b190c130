import errno
import os
import stat
from pathlib import Path

import pytest

from tasks.runtime import files
from tasks.runtime.params import BadInput


def test_large_files_and_folders_are_not_read(tmp_path):
    path = tmp_path / "file.txt"
    path.write_bytes(b"four")
    assert files.read_bytes(path, 4) == b"four"
    with pytest.raises(BadInput, match="more than 3 bytes"):
        files.read_bytes(path, 3)
    with pytest.raises(BadInput, match="not a regular file"):
        files.read_bytes(tmp_path, 3)


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    files.write_text(path, "one")
    files.write_text(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    files.write_text(path, "good")
    with pytest.raises(TypeError), files.replacing(path) as temporary:
        temporary.write_text(temporary.write_text("half"))
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_temporary_files_of_a_killed_process_are_removed(tmp_path):
    path = tmp_path / "file.txt"
    of_another = tmp_path / ".other.txt.abcd_123.tmp"
    for left_over in (tmp_path / ".file.txt.abcd_123.tmp", of_another):
        left_over.write_text("half")
    files.write_text(path, "good")
    assert sorted(tmp_path.iterdir()) == [of_another, path]


@pytest.mark.parametrize("named", [True, False])
def test_errors_name_the_file_and_not_the_temporary_one(tmp_path, named):
    path = tmp_path / "file.txt"

    def write() -> None:
        with files.replacing(path) as temporary:
            where = [str(temporary)] if named else []
            raise OSError(28, "No space left on device", *where)

    with pytest.raises(OSError, match="No space left") as caught:
        write()
    assert str(caught.value) == f"[Errno 28] No space left on device: '{path}'"
    assert list(tmp_path.iterdir()) == []


def test_errors_in_a_read_only_folder_name_the_file(tmp_path, monkeypatch):
    def refused(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "replace", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PermissionError) as error:
        files.write_text(tmp_path / "out", "new")
    assert error.value.filename == str(tmp_path / "out")


def test_temporary_files_are_private_and_results_have_usual_permissions(tmp_path):
    path = tmp_path / "file.txt"
    with files.replacing(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    ordinary = tmp_path / "ordinary.txt"
    ordinary.touch()
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_json_refuses_nan(tmp_path):
    path = tmp_path / "file.json"
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"loss": float("nan")})
    assert not path.exists()


def test_json_keeps_the_order_of_the_keys(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"b": 1, "a": [2]})
    assert path.read_text() == '{\n  "b": 1,\n  "a": [\n    2\n  ]\n}\n'
