"""The revision of the code."""

import re
import subprocess

import pytest

from tasks.registry.provenance import revision


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("a: 1\n")
    git("init", "-q")
    git("add", "-A")
    return tmp_path


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *identity, *arguments], check=True)


def test_the_revision_is_the_commit_and_says_if_the_code_has_changes(checkout):
    git("commit", "-qm", "first")
    clean = revision()
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (checkout / "dvc.lock").write_text("a result\n")
    assert revision() == clean
    (checkout / "params.yaml").write_text("a: 2\n")
    assert revision() == f"{clean}-dirty"


def test_there_is_no_revision_before_the_first_commit(checkout):
    assert revision() is None


def test_there_is_no_revision_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert revision() is None
