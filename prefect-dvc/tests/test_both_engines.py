"""A flow leaves the same files as `dvc repro`, and finds nothing to do after it.

Each case runs on the small checkout, most with either engine, and ends settled: the
other engine finds nothing to do, and dvc.lock is the same as DVC alone would write.
"""

import contextvars
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest
from anyflow import anyflow
from conftest import alive, wait_until
from dvc.exceptions import DvcException
from dvc.repo import Repo

ANYFLOW = Path(__file__).with_name("anyflow.py")
ALL = ["each@a", "each@b", "first", "last"]
CACHED = ["Cached", "Cached", "Cached", "Cached"]
RESULT = "plus hello\nplus world\nminus hello\nminus world\n"

pytestmark = [
    # DVC's own, when it looks up the outputs of a stage.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
    pytest.mark.usefixtures("prefect_server"),
]


def flow(project, *targets, **options):
    """Run the flow in this process; return its state."""
    return anyflow(project.root, list(targets), **options, return_state=True)


def names(state):
    """Return the names of the states of a flow's tasks, in the order of the plan."""
    return [task.name for task in state.result(raise_on_failure=False)]


def described(state):
    """Return a state as the UI shows it."""
    return f"{state.name}: {state.message}"


def by_flow(project, *targets, **options):
    """Run the flow; return whether every stage is up to date."""
    return flow(project, *targets, **options).is_completed()


def by_repro(project, *targets, **options):
    """Run `dvc repro`; return whether every stage is up to date."""
    try:
        project.repro(*targets, on_error="keep-going", **options)
    except DvcException:
        return False
    return True


@pytest.fixture(params=[by_flow, pytest.param(by_repro, marks=pytest.mark.slow)])
def engine(request):
    """The flow, and then `dvc repro`."""
    return request.param


def at_rest(project, engine=by_flow):
    """Check that the other engine finds nothing to do."""
    assert project.status() == {}
    if engine is by_flow:
        assert project.repro() == []
    else:
        assert set(names(flow(project))) == {"Cached"}
    assert project.ran() == []


def settled(project, engine=by_flow):
    """Check also that dvc.lock is the one that `dvc repro` alone would write."""
    at_rest(project, engine)
    if engine is by_flow:
        assert project.lock() == project.fresh_lock()


@contextmanager
def program(project, environment, *arguments):
    """Run a program beside the test; kill it at the end."""
    with (project.notes / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=project.root,
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def flow_beside(project):
    """Run a flow in a thread beside the test; release its stages at the end."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(context.run, flow, project)
        finally:
            project.release()


def output(project):
    """Return the output of the last program."""
    return (project.notes / "output").read_text()


def dvc(project, *arguments):
    """Run `dvc` as a program; it must succeed."""
    subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project.root, check=True
    )


# Changed and unchanged stages.


def test_a_cold_run_runs_every_stage_once(engine, project):
    assert engine(project)
    assert project.ran() == ALL
    assert project.read("all.txt") == RESULT
    assert project.git("status", "--porcelain", "*.txt") == ""
    settled(project, engine)


def test_a_flow_after_repro_finds_everything_cached(built):
    assert names(flow(built)) == CACHED
    settled(built)


@pytest.mark.slow
def test_a_flow_after_a_flow_finds_everything_cached(project):
    assert names(flow(project)) == ["Completed", "Completed", "Completed", "Completed"]
    assert project.ran() == ALL
    assert names(flow(project)) == CACHED
    settled(project)


def test_a_parameter_set_back_restores_the_earlier_results(engine, built):
    built.edit("params.yaml", "a: plus", "a: times")
    assert engine(built)
    assert built.ran() == ["each@a", "last"]
    assert built.read("all.txt").startswith("times hello\ntimes world\n")
    assert built.read("metrics.json") == '{"bytes": 48}\n'
    built.edit("params.yaml", "a: times", "a: plus")
    assert engine(built)
    assert built.ran() == []
    assert built.git("status", "--porcelain") == ""
    built.edit("params.yaml", "a: plus", "a: times")
    assert engine(built)
    assert built.ran() == []
    assert built.read("metrics.json") == '{"bytes": 48}\n'
    settled(built, engine)


@pytest.mark.slow
def test_a_parameter_outside_the_command_reruns_its_stages(engine, built):
    built.edit("params.yaml", "hello", "good day")
    assert engine(built)
    assert built.ran() == ALL
    assert "plus good day\n" in built.read("all.txt")
    built.edit("params.yaml", "good day", "hello")
    assert engine(built)
    assert built.ran() == []
    assert built.read("all.txt") == RESULT
    settled(built, engine)


@pytest.mark.slow
def test_an_edit_without_effect_reruns_its_stage_only(engine, built):
    built.edit("first.sh", "# The text", "# First the text")
    assert engine(built)
    assert built.ran() == ["first"]
    settled(built, engine)


@pytest.mark.slow
def test_an_edit_with_effect_reruns_the_downstream_stages(engine, built):
    built.edit("first.sh", "cat - source.txt", "cat source.txt -")
    assert engine(built)
    assert built.ran() == ALL
    assert built.read("all.txt").startswith("plus world\nplus hello\n")
    settled(built, engine)


@pytest.mark.slow
def test_an_edited_command_reruns_its_stage(engine, built):
    built.edit("dvc.yaml", "sh last.sh", "sh last.sh again")
    assert engine(built)
    assert built.ran() == ["last"]
    settled(built, engine)


@pytest.mark.slow
def test_a_deleted_output_comes_back_from_the_cache(engine, built):
    (built.root / "parts" / "a.txt").unlink()
    assert engine(built)
    assert built.ran() == []
    assert built.read("parts/a.txt") == "plus hello\nplus world\n"
    settled(built, engine)


def test_a_corrupted_output_comes_back_from_the_cache(engine, built):
    built.write("data/first.txt", "hello\nwords\n")
    built.write("metrics.json", '{"bytes": 0}\n')
    assert engine(built)
    assert built.ran() == []
    assert built.read("data/first.txt") == "hello\nworld\n"
    assert built.read("metrics.json") == '{"bytes": 46}\n'
    settled(built, engine)


@pytest.mark.slow
def test_all_deleted_outputs_come_back_from_the_cache(engine, built):
    for stage in built.lock().values():
        for out in stage["outs"]:
            (built.root / out["path"]).unlink()
    assert engine(built)
    assert built.ran() == []
    assert built.read("all.txt") == RESULT
    settled(built, engine)


@pytest.mark.slow
def test_without_the_cache_everything_runs_again(engine, built):
    shutil.rmtree(built.root / ".dvc" / "cache")
    assert engine(built)
    assert built.ran() == ALL
    settled(built, engine)


@pytest.mark.slow
def test_a_fresh_clone_without_the_cache_runs_everything(engine, built):
    clone = built.root.with_name("clone")
    built.git("clone", "--quiet", ".", str(clone))
    built.root = clone
    with chdir(clone):
        assert engine(built)
    assert built.ran() == ALL
    settled(built, engine)


@pytest.mark.slow
def test_force_runs_what_is_unchanged(engine, built):
    assert engine(built, force=True)
    assert built.ran() == ALL
    settled(built, engine)


def test_a_target_runs_only_with_its_upstream_stages(engine, project):
    assert engine(project, "each@b")
    assert project.ran() == ["each@b", "first"]
    assert engine(project, "each")
    assert project.ran() == ["each@a"]
    assert engine(project)
    assert project.ran() == ["last"]
    settled(project, engine)


@pytest.mark.slow
def test_the_flow_runs_from_any_working_directory(built, tmp_path):
    built.edit("params.yaml", "a: plus", "a: times")
    with chdir(tmp_path):
        states = names(flow(built))
        assert Path.cwd() == tmp_path
    assert states == ["Cached", "Completed", "Cached", "Completed"]
    assert built.ran() == ["each@a", "last"]
    built.edit("params.yaml", "a: times", "a: plus")
    with chdir(tmp_path):
        assert names(flow(built)) == CACHED
    settled(built)


def test_a_project_without_git_runs(engine, project):
    shutil.rmtree(project.root / ".git")
    project.write(".dvc/config.local", "[core]\nno_scm = true\n")
    assert engine(project)
    assert project.ran() == ALL
    settled(project, engine)


def test_a_data_source_is_verified_and_recorded(engine, project):
    project.git("rm", "--quiet", "--cached", "source.txt")
    with Repo() as repo:
        repo.add("source.txt")
    assert engine(project)
    assert project.ran() == ALL
    project.write("source.txt", "earth\n")
    assert engine(project)
    assert project.ran() == ALL
    settled(project, engine)


# Failures.


@pytest.mark.slow
def test_a_failing_stage_does_not_stop_its_siblings(engine, built):
    built.edit("params.yaml", "hello", "good day")
    built.fail("each@a", 3, "There is no more paper.")
    before = built.lock()
    assert not engine(built)
    assert built.ran() == ["each@a", "each@b", "first"]
    after = built.lock()
    assert [name for name in after if after[name] != before[name]] == [
        "first",
        "each@b",
    ]
    built.repair("each@a")
    assert engine(built)
    assert built.ran() == ["each@a", "last"]
    settled(built, engine)


def test_a_failing_stage_gives_its_reason_and_exit_status_1(project, prefect_server):
    project.fail("each@a", 3, "There is no more paper.")
    with program(project, prefect_server, ANYFLOW, project.root) as process:
        assert process.wait(60) == 1
    assert project.ran() == ["each@a", "each@b", "first"]
    failed = flow(project)
    assert failed.name == "Failed"
    assert names(failed) == ["Cached", "Failed", "Cached", "NotReady"]
    (_, reason, *_) = failed.result(raise_on_failure=False)
    assert described(reason) == "Failed: There is no more paper."
    assert project.ran() == ["each@a"]


@pytest.mark.slow
def test_a_failure_without_output_is_described_by_its_status(project):
    project.edit("dvc.yaml", "cmd: sh first.sh", "cmd: exit 7")
    (state, *_) = flow(project).result(raise_on_failure=False)
    assert (
        described(state)
        == "Failed: The command ended with status 7 and gave no reason."
    )
    project.edit("dvc.yaml", "cmd: exit 7", "cmd: kill -9 $$")
    (state, *_) = flow(project).result(raise_on_failure=False)
    assert (
        described(state)
        == "Failed: The command was ended by signal 9 and gave no reason."
    )


def test_an_output_that_the_command_did_not_write_fails_the_stage(engine, project):
    project.edit("dvc.yaml", "cmd: sh first.sh", "cmd: 'true'")
    assert not engine(project)
    assert project.lock() == {}


def test_a_missing_dependency_fails_the_stage_in_one_sentence(project):
    (project.root / "source.txt").unlink()
    (state, *_) = flow(project).result(raise_on_failure=False)
    assert state.message == "source.txt: No such file or directory"
    assert project.ran() == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("source.txt", "world", "earth"),
        pytest.param("params.yaml", "hello", "good day", marks=pytest.mark.slow),
        pytest.param(
            "dvc.yaml", "sh first.sh", "sh first.sh again", marks=pytest.mark.slow
        ),
    ],
)
def test_a_result_is_refused_if_its_inputs_change_meanwhile(project, name, old, new):
    project.hold("first")
    with flow_beside(project) as running:
        project.wait_for("first")
        project.edit(name, old, new)
        project.release("first")
        (state, *others) = running.result().result(raise_on_failure=False)
    assert described(state) == (
        "Failed: A dependency of stage 'first' was edited while it ran, so its result "
        "was not recorded; run the pipeline again."
    )
    assert [other.name for other in others] == ["NotReady", "NotReady", "NotReady"]
    assert project.lock() == {}
    assert by_flow(project)
    assert project.ran() == ["each@a", "each@b", "first", "first", "last"]
    settled(project)


# Several programs in one checkout.


@pytest.mark.slow
def test_a_second_flow_waits_and_finds_everything_cached(project, prefect_server):
    project.hold("first")
    with program(project, prefect_server, ANYFLOW, project.root) as first:
        project.wait_for("first")
        with flow_beside(project) as second:
            refused = flow(project, wait=False)
            assert not second.done()
            project.release("first")
            assert first.wait(60) == 0
            assert names(second.result(60)) == CACHED
    assert described(refused) == (
        "Failed: Another run is at work in project; wait for it, or run without "
        "--no-wait."
    )
    assert project.ran() == ALL
    settled(project)


@pytest.mark.slow
def test_repro_is_refused_during_a_flow_which_goes_on_unharmed(project, prefect_server):
    project.hold("each@a")
    with flow_beside(project) as running:
        project.wait_for("each@a")
        with program(project, prefect_server, "-m", "dvc", "repro") as repro:
            assert repro.wait(60) == 255
        project.release("each@a")
        assert running.result(60).is_completed()
    assert "is busy, it is being blocked by" in output(project)
    assert project.ran() == ALL
    settled(project)


@pytest.mark.slow
def test_a_flow_waits_for_repro_and_finds_everything_cached(project, prefect_server):
    # At its last stage: between two, the flow might be faster.
    project.hold("last")
    with program(project, prefect_server, "-m", "dvc", "repro") as repro:
        project.wait_for("last")
        refused = flow(project, wait=False)
        with flow_beside(project) as waiting:
            time.sleep(0.5)  # it would be done by then if it did not wait
            assert not waiting.done()
            project.release("last")
            assert repro.wait(60) == 0
            assert names(waiting.result(60)) == CACHED
    assert names(refused) == ["Cached", "Cached", "Cached", "Failed"]
    assert project.ran() == ALL
    settled(project)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stopped_flow_ends_its_commands(project, prefect_server, number):
    project.edit(
        "dvc.yaml",
        "    desc: Write the text down.\n",
        "    meta: {prefect: {retries: 1, retry_delay_seconds: [30]}}\n",
    )
    project.hold("first")
    with program(project, prefect_server, ANYFLOW, project.root) as running:
        child = project.wait_for("first")
        running.send_signal(number)
        wait_until(lambda: not alive(child))
        assert running.wait(60) != 0
    assert project.ran() == ["first"]
    assert project.lock() == {}
    project.release("first")
    assert by_flow(project)
    assert project.ran() == ALL
    assert len(project.logged("ended")) == 4
    settled(project)


def test_a_killed_flow_leaves_no_command_and_no_partial_output(project, prefect_server):
    project.hold("first")
    with program(project, prefect_server, ANYFLOW, project.root) as running:
        child = project.wait_for("first")
        running.kill()
        running.wait()  # DVC takes a zombie for a running process
        wait_until(lambda: not alive(child))
        project.release("first")
        assert by_flow(project)
    assert project.ran() == ["each@a", "each@b", "first", "first", "last"]
    assert len(project.logged("ended")) == 4
    assert project.read("data/first.txt") == "hello\nworld\n"
    settled(project)


def test_sibling_stages_run_side_by_side(project, monkeypatch):
    monkeypatch.setattr("prefect_dvc.project.available_cores", lambda: 2)
    project.hold("each@a")
    project.hold("each@b")
    with flow_beside(project) as running:
        project.wait_for("each@a")
        project.wait_for("each@b")
        assert [name for name, _ in project.logged("ended")] == ["first"]
        project.release("each@a")
        project.release("each@b")
        assert running.result(60).is_completed()
    assert project.ran() == ALL
    settled(project)


# Experiments.


@pytest.mark.slow
def test_an_experiment_in_the_workspace_is_a_run_like_any_other(built):
    dvc(built, "exp", "run", "--quiet", "--set-param", "text=good day")
    assert built.ran() == ALL
    assert "plus good day\n" in built.read("all.txt")
    assert names(flow(built)) == CACHED
    settled(built)


@pytest.mark.slow
def test_an_experiment_elsewhere_leaves_the_workspace_alone(built):
    dvc(built, "exp", "run", "--temp", "--set-param", "text=good day")
    assert built.ran() == ALL
    assert built.git("status", "--porcelain") == ""
    assert built.read("all.txt") == RESULT
    assert names(flow(built)) == CACHED
    built.edit("params.yaml", "hello", "good day")
    assert names(flow(built)) == CACHED
    settled(built)


@pytest.mark.slow
def test_queued_experiments_leave_the_workspace_alone(built):
    dvc(built, "exp", "run", "--queue", "--set-param", "text=good day")
    assert built.ran() == []
    dvc(built, "queue", "start")
    wait_until(lambda: built.git("for-each-ref", "refs/exps/??/*/*"))
    dvc(built, "queue", "stop", "--kill")
    assert built.ran() == ALL
    assert built.git("status", "--porcelain") == ""
    assert names(flow(built)) == CACHED
    settled(built)


# Settings of a stage in dvc.yaml.


def test_commands_run_in_a_shell(engine, project):
    project.write(
        "dvc.yaml",
        """\
stages:
  piped:
    cmd: printf 'b\\na\\n' | sort > piped.txt && test -s piped.txt || exit 9
    outs: [piped.txt]
  lines:
    cmd: |
      X=1; echo "$X" '$X' > lines.txt
      echo "<$X>" >> lines.txt
    outs: [lines.txt]
  listed:
    cmd:
      - echo one > listed.txt
      - >-
        echo two
        three >> listed.txt
    outs: [listed.txt]
  elsewhere:
    wdir: parts
    cmd: pwd | sed 's:.*/::' > here.txt; echo "$DVC_STAGE" >> here.txt
    outs: [here.txt]
""",
    )
    (project.root / "parts").mkdir()
    assert engine(project)
    assert project.read("piped.txt") == "a\nb\n"
    assert project.read("lines.txt") == "1 $X\n<>\n"
    assert project.read("listed.txt") == "one\ntwo three\n"
    assert project.read("parts/here.txt") == "parts\nelsewhere\n"
    settled(project, engine)


@pytest.mark.slow
def test_no_command_runs_after_a_failed_one(engine, project):
    project.write("dvc.yaml", "stages: {s: {cmd: [touch one, exit 3, touch two]}}")
    assert not engine(project)
    assert (project.root / "one").exists()
    assert not (project.root / "two").exists()
    assert project.lock() == {}


@pytest.mark.slow
def test_python_is_the_interpreter_that_runs_the_flow(project, monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)
    project.write(
        "dvc.yaml",
        """\
stages:
  which:
    cmd: python -c 'import sys; print(sys.executable)' > which.txt
    outs: [which.txt]
""",
    )
    assert by_flow(project)
    assert project.read("which.txt") == f"{sys.executable}\n"


def test_a_frozen_stage_does_not_run_but_its_downstream_stages_do(engine, built):
    built.edit("dvc.yaml", "  first:\n", "  first:\n    frozen: true\n")
    built.edit("source.txt", "world", "earth")
    assert engine(built)
    assert built.ran() == []
    built.write("data/first.txt", "by hand\n")
    assert engine(built)
    assert built.ran() == ["each@a", "each@b", "last"]
    assert built.read("all.txt") == "plus by hand\nminus by hand\n"
    at_rest(built, engine)


@pytest.mark.slow
def test_a_persistent_output_is_kept_when_its_stage_runs_again(engine, project):
    project.write(
        "dvc.yaml",
        """\
stages:
  grows:
    cmd: cat source.txt >> grows.txt
    deps: [source.txt]
    outs: [{grows.txt: {persist: true}}]
""",
    )
    assert engine(project)
    project.edit("source.txt", "world", "earth")
    assert engine(project)
    assert project.read("grows.txt") == "world\nearth\n"
    project.edit("source.txt", "earth", "world")
    assert engine(project)
    assert project.read("grows.txt") == "world\nearth\nworld\n"
    at_rest(project, engine)


@pytest.mark.slow
def test_a_stage_that_always_changes_runs_every_time(engine, built):
    built.edit("dvc.yaml", "  first:\n", "  first:\n    always_changed: true\n")
    assert engine(built)
    assert engine(built)
    assert built.ran() == ["first", "first"]
    assert built.status() == {"first": ["always changed"]}


def test_a_matrix_makes_a_stage_of_every_combination(engine, project):
    project.write(
        "dvc.yaml",
        """\
stages:
  cell:
    matrix: {row: [x, y], column: [1, 2]}
    cmd: echo ${item.row}${item.column} > ${key}.txt
    outs: ["${key}.txt"]
""",
    )
    assert engine(project)
    assert sorted(project.lock()) == ["cell@x-1", "cell@x-2", "cell@y-1", "cell@y-2"]
    assert project.read("y-2.txt") == "y2\n"
    settled(project, engine)


@pytest.mark.slow
def test_an_uncached_output_is_made_again(engine, project):
    project.edit("dvc.yaml", "outs: [all.txt]", "outs: [{all.txt: {cache: false}}]")
    assert engine(project)
    assert project.ran() == ALL
    (project.root / "all.txt").unlink()
    assert engine(project)
    assert project.ran() == ["last"]
    settled(project, engine)


# Settings of a stage in meta.prefect.


def test_only_exit_status_75_is_retried(project):
    project.write(
        "dvc.yaml",
        """\
stages:
  busy:
    cmd: . "$NOTES/body.sh"; begin busy
    meta: {prefect: {retries: 2, retry_delay_seconds: [0, 0]}}
  wrong:
    cmd: . "$NOTES/body.sh"; begin wrong
    meta: {prefect: {retries: 2, retry_delay_seconds: [0, 0]}}
""",
    )
    project.fail("busy", 75, "The mirror is down.")
    project.fail("wrong", 1, "The checksum is wrong.")
    busy, wrong = flow(project).result(raise_on_failure=False)
    assert described(busy) == "Unavailable: The mirror is down."
    assert described(wrong) == "Failed: The checksum is wrong."
    assert project.ran() == ["busy", "busy", "busy", "wrong"]


@pytest.mark.slow
def test_a_retry_that_succeeds_completes_the_stage(project):
    project.edit(
        "dvc.yaml",
        "    cmd: sh first.sh\n",
        """\
    cmd:
      - test -e "$NOTES/tried" || { touch "$NOTES/tried"; exit 75; }
      - sh first.sh
    meta: {prefect: {retries: 1}}
""",
    )
    assert by_flow(project)
    assert project.ran() == ALL
    at_rest(project)


def test_a_stage_that_takes_too_long_is_ended(project):
    project.write(
        "dvc.yaml",
        """\
stages:
  slow:
    cmd: . "$NOTES/body.sh"; begin slow
    meta: {prefect: {timeout_seconds: 0.5, retries: 1}}
""",
    )
    project.hold("slow")
    (state,) = flow(project).result(raise_on_failure=False)
    assert described(state) == "TimedOut: slow took longer than 0.5 s."
    assert project.ran() == ["slow"]
    assert not alive(project.wait_for("slow"))
