"""The ledger keeps DVC's books as DVC does, and says in a sentence what is wrong."""

import inspect
import sqlite3
import tomllib
from contextlib import contextmanager
from pathlib import Path
from subprocess import check_call

import dvc
import pytest
from diskcache import Timeout
from dvc.dvcfile import Lockfile, ProjectFile
from dvc.exceptions import DvcException, ReproductionError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.repo.scm_context import SCMContext
from dvc.rwlock import rwlock
from dvc.stage import Stage
from dvc.stage.cache import StageCache
from dvc.stage.run import _enforce_cmd_list, _make_cmd, get_executable, prepare_kwargs
from dvc_data.hashfile.cache import DiskError
from packaging.requirements import Requirement

from prefect_dvc.dvc_repo import (
    DependencyChanged,
    DvcRepo,
    Plan,
    ProjectBusy,
    ProjectError,
    complete,
    sentence,
)
from prefect_dvc.options import RunOptions

ROOT = Path(__file__).parent.parent

# DVC asks pygtrie so for the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


class GivenUp(Exception):
    pass


def give_up(_seconds):
    raise GivenUp


@pytest.fixture
def ledger(project):
    """The books of the small checkout, which do not wait for anybody."""
    return DvcRepo(project.root, RunOptions(), wait=False, pause=give_up)


def run(entry):
    """Run the commands of an entry and record what they made."""
    for command in entry.commands:
        check_call(command, **entry.process)
    entry.record()


@contextmanager
def claimed(project, *, read=(), write=()):
    """Files of the checkout, held as another DVC command would hold them."""
    with Repo() as repo:
        paths = [
            [str(project.root / name) for name in names] for names in (read, write)
        ]
        with rwlock(repo.tmp_dir, repo.fs, "another command", *paths, hardlink=False):
            yield


def test_a_plan_says_what_comes_after_what_in_running_order(ledger):
    plan = ledger.plan()
    assert plan == {
        "first": Plan(frozenset(), "Write the text down.", {}),
        "each@a": Plan(frozenset({"first"}), "", {}),
        "each@b": Plan(frozenset({"first"}), "", {}),
        "last": Plan(frozenset({"each@a", "each@b"}), "", {}),
    }
    assert list(plan) in (
        ["first", "each@a", "each@b", "last"],
        ["first", "each@b", "each@a", "last"],
    )


def test_a_plan_for_targets_holds_what_they_need(ledger):
    assert list(ledger.plan(["each@b"])) == ["first", "each@b"]
    assert sorted(ledger.plan(["each"])) == ["each@a", "each@b", "first"]


def test_a_frozen_stage_comes_after_nothing(ledger, project):
    project.edit("dvc.yaml", "cmd: sh last.sh", "cmd: sh last.sh\n    frozen: true")
    assert ledger.plan()["last"].after == frozenset()


def test_a_plan_is_read_anew_each_time(ledger, project):
    assert ledger.plan()["last"].meta == {}
    project.edit(
        "dvc.yaml", "sh last.sh", "sh last.sh\n    meta: {prefect: {retries: 1}}"
    )
    assert ledger.plan()["last"].meta == {"prefect": {"retries": 1}}


def test_an_unknown_target_is_one_sentence(ledger):
    with pytest.raises(
        ProjectError, match="^Stage 'lost' not found inside 'dvc.yaml' file$"
    ):
        ledger.plan(["lost"])


def test_a_stage_of_another_project_is_refused(ledger, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "dvc.yaml").write_text("stages: {boom: {cmd: touch boom}}")
    with pytest.raises(
        ProjectError, match="foreign/dvc.yaml:boom' is no stage of this"
    ):
        ledger.plan([f"{foreign}/dvc.yaml:boom"])


def test_a_broken_dvc_yaml_is_one_sentence(ledger, project):
    project.write("dvc.yaml", "stages: [")
    with pytest.raises(ProjectError, match=r"^[^\n]*'dvc.yaml'[^\n]*$"):
        ledger.plan()


def test_a_folder_outside_of_any_checkout_is_one_sentence(tmp_path):
    with pytest.raises(ProjectError, match="^you are not inside of a DVC repository"):
        DvcRepo(tmp_path, RunOptions(), wait=False, pause=give_up)


def test_an_entry_gives_the_commands_that_repro_would_start(ledger, project):
    project.edit("dvc.yaml", "cmd: sh first.sh", "cmd: [sh first.sh, 'true && :']")
    with ledger.opened("first") as entry:
        assert entry.outcome is None
        assert entry.commands == [
            ["/bin/sh", "-c", "sh first.sh"],
            ["/bin/sh", "-c", "true && :"],
        ]
        assert entry.process["cwd"] == str(project.root)
        assert entry.process["env"]["DVC_STAGE"] == "first"
        assert entry.process["env"]["DVC_ROOT"] == str(project.root)


def test_a_recorded_run_is_unchanged_afterwards(ledger, project):
    with ledger.opened("first") as entry:
        run(entry)
    with ledger.opened("first") as entry:
        assert (entry.unchanged, entry.commands) == ("unchanged", [])
    assert project.repro("first") == []
    assert project.lock()["first"]["cmd"] == "sh first.sh"


def test_what_was_run_before_is_restored_from_the_run_cache(ledger, built):
    built.edit("source.txt", "world", "earth")
    built.repro()
    built.edit("source.txt", "earth", "world")
    with ledger.opened("first") as entry:
        assert entry.unchanged == "restored from the run cache"
    assert built.read("data/first.txt") == "hello\nworld\n"
    with ledger.opened("first") as entry:
        assert entry.unchanged == "unchanged"


def test_old_outputs_are_gone_before_the_commands_run(ledger, built):
    with ledger.opened("first", force=True) as entry:
        assert entry.outcome is None
        assert not (built.root / "data" / "first.txt").exists()


def test_an_entry_left_without_a_record_leaves_the_books_alone(ledger, project):
    with ledger.opened("first") as entry:
        check_call(entry.commands[0], **entry.process)
    assert project.lock() == {}
    assert project.repro("first") == ["first"]


def test_an_open_entry_keeps_others_from_its_files(ledger, project):
    with ledger.opened("first") as entry:
        with pytest.raises(ReproductionError) as refused:
            project.repro("first")
        assert "is busy" in str(refused.value.__cause__)
        with pytest.raises(ReproductionError):
            project.repro("each@a")
        run(entry)
    assert project.repro("each@a") == ["each@a"]


def test_siblings_can_be_open_together(ledger, project):
    project.repro("first")
    with ledger.opened("each@a") as a, ledger.opened("each@b") as b:
        run(b)
        run(a)
    assert sorted(project.lock()) == ["each@a", "each@b", "first"]


def test_dvc_lock_is_written_whole_or_not_at_all(ledger, built, monkeypatch):
    before = built.read("dvc.lock")
    built.edit("params.yaml", "hello", "good day")

    def half(book, stage):
        Path(book.path).write_text(before[:100])
        raise OSError(28, "No space left on device")

    with ledger.opened("first") as entry, monkeypatch.context() as patch:
        patch.setattr(Lockfile, "dump", half)
        with pytest.raises(ProjectError, match="^dvc.lock: No space left on device"):
            run(entry)
    assert built.read("dvc.lock") == before
    assert list(built.root.glob(".dvc.lock*")) == []


def test_git_is_given_dvc_lock_where_the_user_wants_that(project):
    project.edit(".dvc/config", "[core]\n", "[core]\n    autostage = true\n")
    with DvcRepo(project.root, RunOptions(), wait=False, pause=give_up).opened(
        "first"
    ) as entry:
        run(entry)
    staged = project.git("diff", "--cached", "--name-only").splitlines()
    assert staged == ["data/.gitignore", "dvc.lock"]


def test_a_result_is_refused_if_what_it_was_made_from_changed(ledger, project):
    with ledger.opened("first") as entry:
        project.edit("source.txt", "world", "earth")
        with pytest.raises(
            DependencyChanged, match="^What stage 'first' depends on was edited "
        ):
            run(entry)
    assert project.lock() == {}


def test_a_result_is_recorded_if_its_source_was_only_touched(ledger, project):
    with ledger.opened("first") as entry:
        project.write("source.txt", project.read("source.txt"))
        run(entry)
    assert list(project.lock()) == ["first"]


@pytest.mark.parametrize("held", [{"read": ["data"]}, {"write": ["source.txt"]}])
def test_files_in_use_are_busy_and_nothing_was_touched(ledger, built, held):
    built.edit("first.sh", "# The text", "# First the text")
    busy = pytest.raises(ProjectBusy, match="is busy.*another command")
    with claimed(built, **held), busy, ledger.opened("first"):
        pass
    assert built.read("data/first.txt") == "hello\nworld\n"


def test_who_waits_says_so_once_and_goes_on_when_the_files_are_free(project):
    said, paused = [], []

    def pause(seconds):
        paused.append(seconds)
        if len(paused) == 2:
            claim.__exit__(None, None, None)

    ledger = DvcRepo(
        project.root, RunOptions(), wait=True, pause=pause, say=said.append
    )
    claim = claimed(project, write=["source.txt"])
    claim.__enter__()
    with ledger.opened("first") as entry:
        run(entry)
    assert paused == [0.2, 0.2]
    assert len(said) == 1
    assert said[0].startswith("Waiting: ")
    assert "another command" in said[0]


def test_who_waits_can_give_up(project):
    ledger = DvcRepo(project.root, RunOptions(), wait=True, pause=give_up)
    taken = claimed(project, write=["source.txt"])
    with taken, pytest.raises(GivenUp), ledger.opened("first"):
        pass


def test_a_plan_waits_for_the_repository_too(project, monkeypatch):
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.06)
    paused = []

    def pause(seconds):
        paused.append(seconds)
        other.unlock()

    ledger = DvcRepo(project.root, RunOptions(), wait=True, pause=pause)
    other = Repo().lock
    other.lock()
    assert len(ledger.plan()) == 4
    assert paused == [0.2]


def test_a_missing_dependency_is_named(ledger, project):
    (project.root / "source.txt").unlink()
    with (
        pytest.raises(ProjectError, match="^source.txt: No such file or directory$"),
        ledger.opened("first"),
    ):
        pass


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("disk I/O error"),
        DiskError("/var/tmp/dvc", "hashes"),
        Timeout("no answer"),
    ],
)
def test_what_fails_in_the_notes_on_files_is_a_sentence(ledger, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(Stage, "changed", fails)
    with (
        pytest.raises(ProjectError, match=f"can't be used .{error}.; see that"),
        ledger.opened("first"),
    ):
        pass


def test_an_error_is_told_with_its_causes_on_one_line():
    error = DvcException("can't push")
    error.__cause__ = OSError("no\nroute")
    assert sentence(error) == "can't push: no route"


# What the ledger asks of DVC is not DVC's public interface.


def test_dvc_is_of_a_version_that_the_ledger_was_written_for():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needs = {
        need.name: need
        for need in map(Requirement, pyproject["project"]["dependencies"])
    }
    assert dvc.__version__ in needs["dvc"].specifier


@pytest.mark.parametrize(
    ("call", "parameters"),
    [
        (lock_repo, "repo"),
        (collect_stages, "repo targets recursive glob"),
        (get_active_graph, "graph"),
        (plan_repro, "graph stages pipeline downstream"),
        (rwlock, "tmp_dir fs cmd read write hardlink"),
        (_enforce_cmd_list, "cmd"),
        (_make_cmd, "executable cmd"),
        (get_executable, ""),
        (prepare_kwargs, "stage run_env"),
        (Stage.changed, "self allow_missing upstream"),
        (Stage.commit, "self allow_missing filter_info kwargs"),
        (Stage.dump, "self kwargs"),
        (Stage.remove_outs, "self ignore_remove force"),
        (Stage.reproduce, "self interactive kwargs"),
        (Stage.save, "self allow_missing run_cache"),
        (Stage.save_deps, "self allow_missing"),
        (StageCache.restore, "self stage run_cache pull dry"),
        (SCMContext.__call__, "self autostage quiet"),
        (ProjectFile.dump, "self stage update_pipeline update_lock kwargs"),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_what_the_ledger_calls_in_dvc_takes_what_it_took(call, parameters):
    assert " ".join(inspect.signature(call).parameters) == parameters


def test_a_stage_has_what_the_ledger_reads(project):
    with Repo() as repo, lock_repo(repo):
        (stage,) = collect_stages(repo, ["first"])
        assert (stage.addressing, stage.cmd, stage.frozen) == (
            "first",
            "sh first.sh",
            False,
        )
        assert (stage.desc, stage.meta) == ("Write the text down.", None)
        stage.save_deps()
        read = {str(dep): dep.hash_info.value for dep in stage.deps}
        assert read["params.yaml"] == {"text": "hello"}
        assert sorted(read) == ["first.sh", "params.yaml", "source.txt"]
        (out,) = stage.outs
        assert (out.use_cache, out.is_metric, out.is_plot) == (True, False, False)
        assert out.fs_path == str(project.root / "data" / "first.txt")
        assert list(repo.index.graph.successors(stage)) == []


def test_a_glance_tells_whether_every_output_is_there(built):
    assert complete(built.root)
    (built.root / "parts" / "a.txt").unlink()
    assert not complete(built.root)


@pytest.mark.parametrize("text", [None, "", "stages:", "stages: {a: 1}", "[", "- a"])
def test_a_glance_at_no_lock_file_tells_that_nothing_is_there(tmp_path, text):
    if text is not None:
        (tmp_path / "dvc.lock").write_text(text)
    assert not complete(tmp_path)
