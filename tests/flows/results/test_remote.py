"""Single files go to the default remote and come back, whole or not at all."""

import hashlib
import subprocess
import sys

import pytest
from dvc.repo import Repo, lock_repo

from flows.results.remote import (
    Missing,
    NoDefault,
    RemoteError,
    Unreachable,
    configuration,
    fetch_object,
    push_objects,
)

# DVC asks pygtrie so for the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

NOWHERE = "0" * 32
TEXT = "plus hello\nplus world\n"


def default_remote(project, url):
    """Make `url` DVC's default remote, as `dvc remote add --default` does."""
    config = project.read(".dvc/config").replace("[core]", "[core]\n    remote = store")
    project.write(".dvc/config", f"{config}['remote \"store\"']\n    url = {url}\n")


@pytest.fixture
def store(project, tmp_path):
    """A folder that is the default remote of the checkout; nothing is in it yet."""
    default_remote(project, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def md5(project):
    """The name of a file in the cache, whose content is `TEXT`."""
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
    # DVC trusts a file that nobody may write.
    path.chmod(0o444)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_configuration_says_which_remote_is_the_default(project, store):
    found = configuration(project.root)
    assert found["core"]["remote"] == "store"
    assert found["remote"]["store"]["url"] == str(store)


def test_a_configuration_that_cannot_be_read_is_one_sentence(project):
    project.write(".dvc/config", "[core]\n    analytics = maybe\n")
    with pytest.raises(Unreachable, match=r"^config file error: [^\n]*$"):
        configuration(project.root)


def test_a_file_is_fetched_from_the_cache_without_any_remote(project, md5, tmp_path):
    fetch_object(project.root, md5, tmp_path / "new" / "champion")
    assert (tmp_path / "new" / "champion").read_text() == TEXT


def test_only_the_files_asked_for_are_pushed_and_once(project, store, md5):
    push_objects(project.root, [md5])
    assert files(store) == [md5[2:]]
    before = stored(store, md5).stat()
    push_objects(project.root, [md5])
    assert stored(store, md5).stat() == before


def test_a_file_that_only_the_remote_has_is_fetched_and_kept(
    project, store, md5, tmp_path
):
    push_objects(project.root, [md5])
    cached(project, md5).unlink()
    fetch_object(project.root, md5, tmp_path / "champion")
    assert (tmp_path / "champion").read_text() == TEXT
    assert cached(project, md5).read_text() == TEXT


def test_a_corrupted_file_of_the_cache_is_replaced_by_the_remotes(
    project, store, md5, tmp_path
):
    push_objects(project.root, [md5])
    corrupt(cached(project, md5))
    fetch_object(project.root, md5, tmp_path / "champion")
    assert (tmp_path / "champion").read_text() == TEXT
    assert cached(project, md5).read_text() == TEXT


def test_a_corrupted_file_of_the_cache_is_not_pushed(project, store, md5):
    corrupt(cached(project, md5))
    with pytest.raises(Missing, match=f"^The file {md5} is neither in DVC's cache nor"):
        push_objects(project.root, [md5])
    assert not store.exists()


def test_a_corrupted_file_of_the_remote_is_not_taken(project, store, md5, tmp_path):
    push_objects(project.root, [md5])
    cached(project, md5).unlink()
    corrupt(stored(store, md5))
    champion = tmp_path / "champion"
    champion.write_text("the last one")
    with pytest.raises(Missing) as missing:
        fetch_object(project.root, md5, champion)
    assert str(missing.value) == (
        f"The remote {store} has another file in the place of {md5}, which was not "
        "used."
    )
    assert champion.read_text() == "the last one"
    assert not cached(project, md5).exists()
    assert list(tmp_path.glob(".champion*")) == []


def test_a_file_that_is_half_there_is_pushed_again(project, store, md5):
    push_objects(project.root, [md5])
    corrupt(stored(store, md5))
    push_objects(project.root, [md5])
    assert stored(store, md5).read_text() == TEXT


def test_a_file_that_is_nowhere_is_missing(project, store, md5, tmp_path):
    push_objects(project.root, [md5])
    sentence = (
        f"The file {NOWHERE} is neither in DVC's cache nor on the remote {store}."
    )
    for act in (
        lambda: push_objects(project.root, [NOWHERE]),
        lambda: fetch_object(project.root, NOWHERE, tmp_path / "champion"),
    ):
        with pytest.raises(Missing) as missing:
            act()
        assert str(missing.value) == sentence
    assert not (tmp_path / "champion").exists()


def test_a_remote_that_is_not_there_is_not_the_same_as_a_missing_file(
    project, store, tmp_path
):
    with pytest.raises(Unreachable) as unreachable:
        fetch_object(project.root, NOWHERE, tmp_path / "champion")
    assert str(unreachable.value) == (
        f"Nothing is found at {store}, so the file {NOWHERE} can't be fetched; is this "
        "the right place, and can it be reached from here?"
    )


def test_a_remote_that_refuses_is_one_sentence(project, store, md5):
    store.write_text("no folder")
    with pytest.raises(
        Unreachable, match=rf"^The remote {store} can't be used: [^\n]+$"
    ):
        push_objects(project.root, [md5])


def test_a_kind_of_remote_that_is_not_installed_is_one_sentence(project, md5):
    default_remote(project, "gs://bucket/mnist")
    with pytest.raises(Unreachable, match="^gs is supported, but requires 'dvc-gs' to"):
        push_objects(project.root, [md5])


def test_without_a_default_remote_nothing_is_pushed_or_found(project, md5, tmp_path):
    with pytest.raises(NoDefault, match="^DVC has no default remote; name one by `dvc"):
        push_objects(project.root, [md5])
    with pytest.raises(
        Missing, match=f"^The file {NOWHERE} is not in DVC's cache, and"
    ):
        fetch_object(project.root, NOWHERE, tmp_path / "champion")


def test_a_password_in_a_url_is_in_no_message(project, md5):
    url = "http://me:sesame@127.0.0.1:9/mnist"
    default_remote(project, url)
    with pytest.raises(
        Unreachable, match=r"^The remote http://\*\*\*@127.0.0.1:9/mnist can't"
    ) as unreachable:
        push_objects(project.root, [md5])
    assert "sesame" not in str(unreachable.value)


def test_what_is_no_md5_never_becomes_a_path(project, store, tmp_path):
    for act in (
        lambda: push_objects(project.root, ["../config"]),
        lambda: fetch_object(project.root, "../config", tmp_path / "champion"),
    ):
        with pytest.raises(
            RemoteError, match="^'../config' is not an md5, which has 32"
        ):
            act()


def test_a_folder_outside_of_any_checkout_is_one_sentence(tmp_path):
    with pytest.raises(RemoteError, match="^you are not inside of a DVC repository"):
        push_objects(tmp_path, [NOWHERE])


def test_files_are_copied_while_another_command_has_dvcs_lock(
    project, store, md5, tmp_path
):
    with Repo(str(project.root)) as repo, lock_repo(repo):
        push_objects(project.root, [md5])
        cached(project, md5).unlink()
        fetch_object(project.root, md5, tmp_path / "champion")
    assert (tmp_path / "champion").read_text() == TEXT


def test_the_command_line_pushes_or_says_why_not(project, store, md5):
    command = [sys.executable, "-m", "flows.results.remote"]
    subprocess.run([*command, md5], cwd=project.root, check=True)
    assert files(store) == [md5[2:]]
    ended = subprocess.run(
        [*command, NOWHERE],
        cwd=project.root,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"ERROR: The file {NOWHERE} is neither in DVC's cache nor on the remote "
        f"{store}.\n"
    )
