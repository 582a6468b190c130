"""DvcRepo follows the rules of `dvc repro`, and explains errors in one sentence."""

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
from dvc.stage.cache import StageCache, _can_hash
from dvc.stage.run import (
    _enforce_cmd_list,
    _make_cmd,
    _pull_missing_deps,
    get_executable,
    prepare_kwargs,
)
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.cache import DiskError
from packaging.requirements import Requirement

from prefect_dvc.dvc_repo import DvcRepo
from prefect_dvc.errors import (
    DependencyChanged,
    ProjectBusy,
    ProjectError,
    describe_error,
)
from prefect_dvc.options import RunOptions
from prefect_dvc.results import Outcome

PACKAGE = Path(__file__).parent.parent

# DVC's own, when it looks up the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


class GivenUp(Exception):
    pass


def give_up(_seconds):
    raise GivenUp


def opened_repo(project, *targets, **options):
    """The small project, where nothing waits for a lock."""
    return DvcRepo(
        project.root, RunOptions.of(targets, **options), wait=False, pause=give_up
    )


@pytest.fixture
def repo(project):
    return opened_repo(project)


def run(stage):
    """Run the commands of an open stage and record their result."""
    for command in stage.commands:
        check_call(command, **stage.process)
    stage.record()


@contextmanager
def claimed(project, *, read=(), write=()):
    """Hold files of the project as another DVC command does."""
    with Repo() as repo:
        paths = [
            [str(project.root / name) for name in names] for names in (read, write)
        ]
        with rwlock(repo.tmp_dir, repo.fs, "another command", *paths, hardlink=False):
            yield


def test_select_returns_stages_in_running_order_with_what_they_need(repo):
    selected = repo.select()
    assert {name: set(stage.upstream) for name, stage in selected.items()} == {
        "first": set(),
        "each@a": {"first"},
        "each@b": {"first"},
        "last": {"each@a", "each@b"},
    }
    assert next(iter(selected)) == "first"
    assert list(selected)[-1] == "last"
    assert selected["first"].feeds == ("each@a", "each@b")
    assert selected["first"].description == "Write the text down."
    assert selected["last"].meta == {}


def test_select_includes_the_upstream_stages_of_targets(project):
    assert list(opened_repo(project, "each@b").select()) == ["first", "each@b"]
    assert sorted(opened_repo(project, "each").select()) == [
        "each@a",
        "each@b",
        "first",
    ]


def test_a_frozen_stage_needs_no_other(repo, project):
    project.edit("dvc.yaml", "cmd: sh last.sh", "cmd: sh last.sh\n    frozen: true")
    assert repo.select()["last"].upstream == ()


def test_dvc_yaml_is_read_again_each_time(repo, project):
    assert repo.select()["last"].meta == {}
    project.edit(
        "dvc.yaml", "sh last.sh", "sh last.sh\n    meta: {prefect: {retries: 1}}"
    )
    assert repo.select()["last"].meta == {"prefect": {"retries": 1}}


def test_an_unknown_target_is_refused_in_one_sentence(project):
    with pytest.raises(ProjectError, match="^Stage 'lost' not found inside [^\n]*$"):
        opened_repo(project, "lost").select()


def test_a_stage_of_another_project_is_refused(project, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "dvc.yaml").write_text("stages: {boom: {cmd: touch boom}}")
    with pytest.raises(ProjectError, match="foreign/dvc.yaml:boom' is not a stage"):
        opened_repo(project, f"{foreign}/dvc.yaml:boom").select()


def test_an_invalid_dvc_yaml_is_refused_in_one_sentence(repo, project):
    project.write("dvc.yaml", "stages: [")
    with pytest.raises(ProjectError, match=r"^[^\n]*'dvc.yaml'[^\n]*$"):
        repo.select()


def test_a_folder_outside_any_repository_is_refused(tmp_path):
    with pytest.raises(ProjectError, match="^you are not inside of a DVC repository"):
        DvcRepo(tmp_path, RunOptions(), wait=False, pause=give_up)


def test_an_open_stage_has_the_commands_that_repro_would_start(repo, project):
    project.edit("dvc.yaml", "cmd: sh first.sh", "cmd: [sh first.sh, 'true && :']")
    with repo.opened("first") as stage:
        assert stage.outcome is None
        assert stage.commands == [
            ["/bin/sh", "-c", "sh first.sh"],
            ["/bin/sh", "-c", "true && :"],
        ]
        assert stage.process["cwd"] == str(project.root)
        assert stage.process["env"]["DVC_STAGE"] == "first"
        assert stage.process["env"]["DVC_ROOT"] == str(project.root)


def test_a_recorded_run_is_unchanged_afterwards(repo, project):
    with repo.opened("first") as stage:
        run(stage)
    with repo.opened("first") as stage:
        assert (stage.outcome, stage.commands) == (Outcome.UNCHANGED, [])
    assert project.repro("first") == []
    assert project.lock()["first"]["cmd"] == "sh first.sh"


def test_a_result_of_an_earlier_run_is_restored_from_the_run_cache(repo, built):
    built.edit("source.txt", "world", "earth")
    built.repro()
    built.edit("source.txt", "earth", "world")
    with repo.opened("first") as stage:
        assert stage.outcome is Outcome.RESTORED
    assert built.read("data/first.txt") == "hello\nworld\n"
    with repo.opened("first") as stage:
        assert stage.outcome is Outcome.UNCHANGED


def test_old_outputs_are_removed_before_the_commands_run(repo, built):
    with repo.opened("first", force=True) as stage:
        assert stage.outcome is None
        assert not (built.root / "data" / "first.txt").exists()


def test_dvc_lock_is_unchanged_if_nothing_is_recorded(repo, project):
    with repo.opened("first") as stage:
        check_call(stage.commands[0], **stage.process)
    assert project.lock() == {}
    assert project.repro("first") == ["first"]


def test_other_commands_are_refused_while_a_stage_is_open(repo, project):
    with repo.opened("first") as stage:
        with pytest.raises(ReproductionError) as refused:
            project.repro("first")
        assert "is busy" in str(refused.value.__cause__)
        with pytest.raises(ReproductionError):
            project.repro("each@a")
        run(stage)
    assert project.repro("each@a") == ["each@a"]


def test_sibling_stages_can_be_open_together(repo, project):
    project.repro("first")
    with repo.opened("each@a") as a, repo.opened("each@b") as b:
        run(b)
        run(a)
    assert sorted(project.lock()) == ["each@a", "each@b", "first"]


def test_dvc_lock_is_replaced_atomically(repo, built, monkeypatch):
    before = built.read("dvc.lock")
    built.edit("params.yaml", "hello", "good day")

    def half(lockfile, stage):
        Path(lockfile.path).write_text(before[:100])
        raise OSError(28, "No space left on device")

    with repo.opened("first") as stage, monkeypatch.context() as patch:
        patch.setattr(Lockfile, "dump", half)
        with pytest.raises(ProjectError, match="^dvc.lock: No space left on device"):
            run(stage)
    assert built.read("dvc.lock") == before
    assert list(built.root.glob(".dvc.lock*")) == []


def test_a_reader_of_dvc_lock_never_sees_half_a_file(repo, built, tmp_path):
    opened = tmp_path / "opened"
    opened.hardlink_to(built.root / "dvc.lock")
    before = built.read("dvc.lock")
    built.edit("params.yaml", "hello", "good day")
    with repo.opened("first") as stage:
        run(stage)
    assert opened.read_text() == before != built.read("dvc.lock")


def test_dvc_lock_is_staged_in_git_with_autostage(project):
    project.edit(".dvc/config", "[core]\n", "[core]\n    autostage = true\n")
    with DvcRepo(project.root, RunOptions(), wait=False, pause=give_up).opened(
        "first"
    ) as stage:
        run(stage)
    staged = project.git("diff", "--cached", "--name-only").splitlines()
    assert staged == ["data/.gitignore", "dvc.lock"]


def test_a_result_is_refused_if_a_dependency_changed_meanwhile(repo, project):
    with repo.opened("first") as stage:
        project.edit("source.txt", "world", "earth")
        with pytest.raises(
            DependencyChanged, match="^A dependency of stage 'first' was edited "
        ):
            run(stage)
    assert project.lock() == {}


def test_a_result_is_recorded_if_a_dependency_was_only_touched(repo, project):
    with repo.opened("first") as stage:
        project.write("source.txt", project.read("source.txt"))
        run(stage)
    assert list(project.lock()) == ["first"]


@pytest.mark.parametrize("held", [{"read": ["data"]}, {"write": ["source.txt"]}])
def test_files_in_use_are_refused_and_nothing_is_removed(repo, built, held):
    built.edit("first.sh", "# The text", "# First the text")
    busy = pytest.raises(ProjectBusy, match="is busy.*another command")
    with claimed(built, **held), busy, repo.opened("first"):
        pass
    assert built.read("data/first.txt") == "hello\nworld\n"


def test_a_wait_is_reported_once_and_ends_when_the_files_are_free(project):
    said, paused = [], []

    def pause(seconds):
        paused.append(seconds)
        if len(paused) == 2:
            claim.__exit__(None, None, None)

    repo = DvcRepo(project.root, RunOptions(), wait=True, pause=pause, say=said.append)
    claim = claimed(project, write=["source.txt"])
    claim.__enter__()
    with repo.opened("first") as stage:
        run(stage)
    assert paused == [0.2, 0.2]
    assert len(said) == 1
    assert said[0].startswith("Waiting: ")
    assert "another command" in said[0]


def test_a_wait_can_be_stopped(project):
    repo = DvcRepo(project.root, RunOptions(), wait=True, pause=give_up)
    taken = claimed(project, write=["source.txt"])
    with taken, pytest.raises(GivenUp), repo.opened("first"):
        pass


def test_select_and_plan_wait_for_the_repository(project, monkeypatch):
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.06)
    paused = []

    def pause(seconds):
        paused.append(seconds)
        other.unlock()

    repo = DvcRepo(project.root, RunOptions(), wait=True, pause=pause)
    other = Repo().lock
    other.lock()
    assert len(repo.select()) == 4
    assert paused == [0.2]
    other.lock()
    assert len(repo.plan()) == 4
    assert paused == [0.2, 0.2]


def test_a_missing_dependency_is_named(repo, project):
    (project.root / "source.txt").unlink()
    with (
        pytest.raises(ProjectError, match="^source.txt: No such file or directory$"),
        repo.opened("first"),
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
def test_a_broken_database_of_file_hashes_is_described_in_one_sentence(
    repo, monkeypatch, error
):
    def fails(*_):
        raise error

    monkeypatch.setattr(Stage, "changed", fails)
    with (
        pytest.raises(ProjectError, match=f"can't be used .{error}.; check that"),
        repo.opened("first"),
    ):
        pass


def test_an_error_is_described_with_its_causes_on_one_line():
    error = DvcException("can't push")
    error.__cause__ = OSError("no\nroute")
    assert describe_error(error) == "can't push: no route"


# Contract tests: the adapter uses parts of DVC that are not public.


def test_the_installed_dvc_is_supported():
    pyproject = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
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
        (StageCache.pull, "self remote odb"),
        (StageCache._load, "self stage"),
        (StageCache._create_stage, "self cache wdir"),
        (_can_hash, "stage"),
        (_pull_missing_deps, "stage"),
        (to_single_stage_lockfile, "stage kwargs"),
        (Stage.changed_stage, "self"),
        (Stage.checkout, "self allow_missing kwargs"),
        (Stage.deps_cached, "self"),
        (Stage.outs_cached, "self"),
        (SCMContext.__call__, "self autostage quiet"),
        (ProjectFile.dump, "self stage update_pipeline update_lock kwargs"),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_dvc_functions_have_the_parameters_that_the_adapter_uses(call, parameters):
    assert " ".join(inspect.signature(call).parameters) == parameters


def test_a_dvc_stage_has_the_attributes_that_the_adapter_reads(project):
    with Repo() as dvc_repo, lock_repo(dvc_repo):
        (stage,) = collect_stages(dvc_repo, ["first"])
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
        assert list(dvc_repo.index.graph.successors(stage)) == []
        assert stage.dvcfile.lockfile_contents == {}
