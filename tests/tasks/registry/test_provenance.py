"""Which revision of the code this is."""

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


def test_it_is_the_commit_and_whether_the_code_was_changed_since(checkout):
    git("commit", "-qm", "first")
    clean = revision()
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (checkout / "dvc.lock").write_text("results are no code\n")
    assert revision() == clean
    (checkout / "params.yaml").write_text("a: 2\n")
    assert revision() == f"{clean}-dirty"


def test_without_a_commit_there_is_none(checkout):
    assert revision() is None


def test_without_git_there_is_none(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert revision() is None
