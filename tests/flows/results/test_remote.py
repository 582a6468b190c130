"""Single files are copied to the default remote and back, whole or not at all."""

import hashlib
import subprocess
import sys

import pytest
from dvc.repo import Repo, lock_repo

from flows.results.remote import (
    MissingFile,
    RemoteError,
    configuration,
    fetch_object,
    masked,
    push_objects,
)

# DVC calls pygtrie in this way for the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

NOWHERE = "0" * 32
TEXT = "plus hello\nplus world\n"
REMOTES = {
    "far": {"url": "s3://bucket/mnist", "region": "us-east-1", "use_ssl": True},
    "near": {
        "url": "ssh://host/mnist",
        "user": "operator",
        "password": "hunter2hunter2",
        "secret_access_key": "hunter2",
        "passphrase": "abc",
    },
}


def default_remote(project, url):
    """Make `url` DVC's default remote, as `dvc remote add --default` does."""
    config = project.read(".dvc/config").replace("[core]", "[core]\n    remote = store")
    project.write(".dvc/config", f"{config}['remote \"store\"']\n    url = {url}\n")


@pytest.fixture
def store(project, tmp_path):
    """A folder that is the default remote of the checkout and doesn't exist yet."""
    default_remote(project, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def md5(project):
    """The MD5 of a file in the cache, whose content is `TEXT`."""
    md5 = hashlib.md5(TEXT.encode()).hexdigest()
    cached(project, md5).parent.mkdir(parents=True)
    cached(project, md5).write_text(TEXT)
    cached(project, md5).chmod(0o444)
    return md5


def cached(project, md5):
    return project.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def stored(store, md5):
    return store / "files" / "md5" / md5[:2] / md5[2:]


def corrupt(path):
    path.chmod(0o644)
    path.write_text("other")
    # DVC trusts a read-only file.
    path.chmod(0o444)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_configuration_has_the_default_remote(project, store):
    found = configuration(project.root)
    assert found["core"]["remote"] == "store"
    assert found["remote"]["store"]["url"] == str(store)


def test_invalid_configuration_is_one_sentence(project):
    project.write(".dvc/config", "[core]\n    analytics = maybe\n")
    with pytest.raises(RemoteError, match=r"^config file error: [^\n]*$"):
        configuration(project.root)


def test_fetch_from_the_cache_needs_no_remote(project, md5):
    assert fetch_object(project.root, md5) == TEXT.encode()


def test_push_copies_the_given_files_once(project, store, md5):
    push_objects(project.root, [md5])
    assert files(store) == [md5[2:]]
    before = stored(store, md5).stat()
    push_objects(project.root, [md5])
    assert stored(store, md5).stat() == before


@pytest.mark.parametrize("corrupted", [False, True])
def test_fetch_from_the_remote_also_restores_the_cache(project, store, md5, corrupted):
    push_objects(project.root, [md5])
    if corrupted:
        corrupt(cached(project, md5))
    else:
        cached(project, md5).unlink()
    assert fetch_object(project.root, md5) == TEXT.encode()
    assert cached(project, md5).read_text() == TEXT


def test_corrupted_file_of_the_cache_is_not_pushed(project, store, md5):
    corrupt(cached(project, md5))
    with pytest.raises(MissingFile, match=f"{md5} is neither in DVC's cache nor"):
        push_objects(project.root, [md5])
    assert not store.exists()


def test_corrupted_file_of_the_remote_is_refused(project, store, md5):
    push_objects(project.root, [md5])
    cached(project, md5).unlink()
    corrupt(stored(store, md5))
    with pytest.raises(MissingFile, match=f"remote {store} has other content"):
        fetch_object(project.root, md5)
    assert not cached(project, md5).exists()


def test_partial_file_on_the_remote_is_pushed_again(project, store, md5):
    push_objects(project.root, [md5])
    corrupt(stored(store, md5))
    push_objects(project.root, [md5])
    assert stored(store, md5).read_text() == TEXT


def test_missing_file_is_one_sentence(project, store, md5):
    push_objects(project.root, [md5])
    sentence = f"{NOWHERE} is neither in DVC's cache nor on the remote {store}."
    with pytest.raises(MissingFile, match=sentence):
        push_objects(project.root, [NOWHERE])
    with pytest.raises(MissingFile, match=sentence):
        fetch_object(project.root, NOWHERE)


def test_missing_remote_is_not_reported_as_a_missing_file(project, store):
    with pytest.raises(RemoteError, match=f"Nothing is at {store}") as error:
        fetch_object(project.root, NOWHERE)
    assert not isinstance(error.value, MissingFile)


def test_remote_that_fails_is_one_sentence(project, store, md5):
    store.write_text("not a folder")
    with pytest.raises(
        RemoteError, match=rf"^The remote {store} can't be used: [^\n]+$"
    ):
        push_objects(project.root, [md5])


def test_remote_whose_package_is_missing_is_one_sentence(project, md5):
    default_remote(project, "gs://bucket/mnist")
    with pytest.raises(RemoteError, match="^gs is supported, but requires 'dvc-gs' to"):
        push_objects(project.root, [md5])


def test_without_a_default_remote_nothing_is_pushed_or_fetched(project, md5):
    with pytest.raises(RemoteError, match="DVC has no default remote"):
        push_objects(project.root, [md5])
    with pytest.raises(MissingFile, match=f"{NOWHERE} is not in DVC's cache, and"):
        fetch_object(project.root, NOWHERE)


def test_errors_hide_the_password_of_a_url(project, md5):
    default_remote(project, "http://me:sesame@127.0.0.1:9/mnist")
    with pytest.raises(RemoteError, match=r"http://\*\*\*@127.0.0.1:9/mnist") as error:
        push_objects(project.root, [md5])
    assert "sesame" not in str(error.value)


def test_invalid_md5_never_becomes_a_path(project, store):
    with pytest.raises(RemoteError, match="'../config' is not an MD5"):
        push_objects(project.root, ["../config"])
    with pytest.raises(RemoteError, match="'../config' is not an MD5"):
        fetch_object(project.root, "../config")


def test_folder_without_dvc_is_one_sentence(tmp_path):
    with pytest.raises(RemoteError, match="^you are not inside of a DVC repository"):
        push_objects(tmp_path, [NOWHERE])


def test_files_are_copied_while_another_command_has_dvcs_lock(project, store, md5):
    with Repo(str(project.root)) as repo, lock_repo(repo):
        push_objects(project.root, [md5])
        cached(project, md5).unlink()
        assert fetch_object(project.root, md5) == TEXT.encode()


def test_command_line_reports_a_missing_file(project, store):
    command = [sys.executable, "-m", "flows.results.remote", NOWHERE]
    ended = subprocess.run(
        command, cwd=project.root, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"ERROR: The file {NOWHERE} is neither in DVC's")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        (
            "ERROR: operator@host: hunter2hunter2 is wrong, hunter2 too",
            "ERROR: operator@host: *** is wrong, *** too",
        ),
        ("the key from/the+environment is not known", "the key *** is not known"),
        ("to http://me:p@ss@host/x, not b@host", "to http://***@host/x, not b@host"),
        (
            "to s3://bucket/a@b in us-east-1: abc",
            "to s3://bucket/a@b in us-east-1: abc",
        ),
    ],
)
def test_log_lines_hide_credentials_and_nothing_else(monkeypatch, text, logged):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from/the+environment")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert masked(text, REMOTES) == logged
