"""Runs in a flow: order of stages, cores, hooks, other tasks, results."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

import pytest
from conftest import wait_until
from dvc.repo import Repo
from dvc.rwlock import rwlock
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.context import TaskRunContext
from prefect.states import Completed
from test_stage_tasks import artifacts

from prefect_dvc import (
    Action,
    DvcProject,
    Outcome,
    ProjectError,
    RunFailed,
    history,
)
from prefect_dvc.cores import Cores

pytestmark = [
    # DVC's own, when it looks up the outputs of a stage.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
    pytest.mark.usefixtures("prefect_server"),
]
FOUR = """\
stages:
  a: {cmd: . "$NOTES/body.sh"; begin a; sleep 0.1; end a}
  b: {cmd: . "$NOTES/body.sh"; begin b; sleep 0.1; end b}
  c: {cmd: . "$NOTES/body.sh"; begin c; sleep 0.1; end c}
  d: {cmd: . "$NOTES/body.sh"; begin d; sleep 0.1; end d}
"""


def began(project):
    return [name for name, _ in project.logged("began")]


# Cores.


def test_the_longest_stages_of_the_last_run_start_first(project):
    project.write("dvc.yaml", FOUR)
    seconds = {"a": 1.0, "b": 4.0, "c": 2.0, "d": 3.0}
    history.write(project.root, seconds)
    DvcProject(project.root, jobs=1).run()
    assert began(project) == ["b", "d", "c", "a"]
    measured = history.read(project.root)
    assert sorted(measured) == ["a", "b", "c", "d"]
    assert all(0.1 <= value < 5 for value in measured.values())


@pytest.mark.slow
def test_a_plan_has_the_seconds_of_the_last_run(project):
    project.write("dvc.yaml", FOUR)
    runs = DvcProject(project.root, jobs=2)
    assert runs.plan().stage("a").last_seconds is None
    runs.run()
    assert runs.plan().stage("a").last_seconds >= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_no_more_stages_run_at_a_time_than_jobs(project, jobs):
    project.write("dvc.yaml", FOUR)
    DvcProject(project.root, jobs=jobs).run()
    running, most = 0, 0
    for line in (project.notes / "log").read_text().splitlines():
        running += 1 if line.startswith("began") else -1
        most = max(most, running)
    assert most == min(jobs, 4)


@pytest.mark.slow
def test_a_stage_with_all_cores_runs_alone(project):
    two = FOUR.replace("end a}", "end a, meta: {prefect: {cores: 2}}}")
    project.write("dvc.yaml", two)
    DvcProject(project.root, jobs=2).run()
    lines = (project.notes / "log").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("began a"))
    assert lines[start + 1].startswith("ended a")
    assert len(lines) == 8


@pytest.mark.slow
def test_a_stage_with_more_cores_than_there_are_gets_all(project):
    project.write(
        "dvc.yaml", FOUR.replace("end a}", "end a, meta: {prefect: {cores: 64}}}")
    )
    assert DvcProject(project.root, jobs=2).run().ok


def test_waiting_for_cores_never_deadlocks():
    names = [f"s{i}" for i in range(12)]
    seconds = {name: i % 5 for i, name in enumerate(names) if i % 3}
    cores = Cores(3, dict.fromkeys(names, ()), seconds)
    running, most = [], []

    def work(i):
        with cores.held(names[i], 1 + i % 4, pause=lambda _: None):
            running.append(i)
            most.append(sum(min(3, 1 + j % 4) for j in running))
            time.sleep(0.01)
            running.remove(i)
        cores.ended(names[i])

    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit(work, i) for i in range(12)]:
            future.result(30)
    assert max(most) <= 3


@contextmanager
def held_by_another_command(project, name):
    with Repo(str(project.root)) as repo:
        paths = [], [str(project.root / name)]
        with rwlock(repo.tmp_dir, repo.fs, "another command", *paths, hardlink=False):
            yield


@pytest.mark.slow
def test_a_stage_that_waits_for_another_command_does_not_block_the_others(project):
    project.write("dvc.yaml", FOUR.replace("end a}", "end a, deps: [source.txt]}"))
    history.write(project.root, {"a": 9.0})
    runs = DvcProject(project.root, jobs=1)
    with (
        ThreadPoolExecutor(1) as pool,
        held_by_another_command(project, "source.txt"),
    ):
        running = pool.submit(copy_context().run, runs.run)
        wait_until(lambda: len(project.logged("ended")) == 3)
        assert "a" not in began(project)
        assert not running.done()
    assert running.result(60).ok
    assert began(project)[-1] == "a"


def test_a_frozen_stage_waits_for_the_stage_that_writes_what_it_reads(project):
    project.edit("dvc.yaml", "  last:\n", "  last:\n    frozen: true\n")
    project.edit(
        "dvc.yaml", "deps: [last.sh, parts]", "deps: [last.sh, data/first.txt]"
    )
    for name in ("all.txt", "metrics.json", "sizes.csv"):
        project.write(name, "{}\n")
    project.hold("first")
    runs = DvcProject(project.root, jobs=2, wait=False)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(copy_context().run, runs.run)
        project.wait_for("first")
        project.release()
        assert running.result(60).ok


# Hooks and other tasks.


def test_hooks_get_the_results_of_matching_stages_in_their_tasks(built):
    built.edit("params.yaml", "a: plus", "a: times")
    runs = DvcProject(built.root)
    seen, everything = {}, []

    @runs.on_stage("each@*")
    def note(result):
        task = TaskRunContext.get()
        seen[result.name] = (task.task_run.name, result.outcome, result.reason)

    @runs.on_stage()
    def note_all(result):
        everything.append(result.name)

    runs.run()
    assert seen == {
        "each@a": (
            "each@a",
            Outcome.RAN,
            (
                "command changed from sh each.sh a plus to sh each.sh a times; "
                "parameter signs.a changed from plus to times"
            ),
        ),
        "each@b": ("each@b", Outcome.UNCHANGED, ""),
    }
    assert sorted(everything) == ["each@a", "each@b", "first", "last"]


@pytest.mark.slow
def test_a_failing_hook_does_not_fail_its_stage(built):
    runs = DvcProject(built.root)
    called = []

    @runs.on_stage("first")
    def fail(_result):
        raise ZeroDivisionError

    @runs.on_stage("first")
    def second(result):
        called.append(result.name)

    assert runs.run().ok
    assert called == ["first"]


def test_a_task_after_stages_runs_commands_when_they_have_ended(project):
    @flow
    def pipeline():
        with DvcProject(project.root).open() as run:
            run.submit_all()
            count = run.after(
                ["each@a", "each@b"],
                "count",
                lambda commands: commands.run(["sh", "-c", "cat parts/*.txt | wc -l"]),
                description="Count the lines.",
            )
            return count.result(), "last" in run, run.names[0]

    assert pipeline() == (["4"], True, "first")


def test_a_task_after_a_failed_stage_does_not_run(project):
    project.fail("each@a", 3, "There is no more paper.")
    called = []

    @flow
    def pipeline():
        with DvcProject(project.root).open(keep_going=True) as run:
            run.submit_all()
            after_a = run.after("each@a", "after a", called.append)
            after_b = run.after("each@b", "after b", lambda _: Completed(name="Good"))
            after_a.wait()
            after_b.wait()
            return [after_a.state.name, after_b.state.name], run.wait().summary

    states, summary = pipeline()
    assert states == ["NotReady", "Good"]
    assert summary == (
        "each@a failed: There is no more paper. Stages skipped because of this: 1."
    )
    assert called == []


# Results.


def test_run_failed_has_the_outcome_of_every_stage(project):
    project.fail("each@a", 3, "There is no more paper.")
    with pytest.raises(
        RunFailed, match="^each@a failed: There is no more paper. "
    ) as failure:
        DvcProject(project.root, jobs=2).run(keep_going=True)
    result = failure.value.result
    assert {stage.name: stage.outcome.value for stage in result} == {
        "first": "ran",
        "each@a": "failed",
        "each@b": "ran",
        "last": "skipped",
    }
    assert result.stage("each@a").message == "There is no more paper."
    assert [stage.name for stage in result.failed] == ["each@a"]
    assert not result.ok


@pytest.mark.slow
def test_a_failure_can_be_returned_instead_of_raised(project):
    project.fail("first", 3, "There is no more paper.")
    result = DvcProject(project.root).run(raise_on_failure=False)
    assert not result.ok
    assert str(result).splitlines()[1].split()[:2] == ["first", "failed"]


@pytest.mark.slow
def test_a_run_outside_a_flow_has_a_flow_named_after_the_folder(project):
    odd = project.root.with_name("a & b")
    project.root.rename(odd)
    os.chdir(odd)
    project.root = odd
    names = []
    runs = DvcProject(odd)

    @runs.on_stage("last")
    def note(_result):
        with get_client(sync_client=True) as client:
            run_id = TaskRunContext.get().task_run.flow_run_id
            chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
            (found,) = client.read_flow_runs(flow_run_filter=chosen)
            names.append(client.read_flow(found.flow_id).name)

    assert runs.run().ok
    assert names == ["a - b"]


def test_the_ui_shows_a_table_of_outcomes_and_reasons(built):
    built.edit("params.yaml", "a: plus", "a: times")
    built.write("parts/b.txt", "wrong\n")

    @flow
    def pipeline():
        DvcProject(built.root).run()

    state = pipeline(return_state=True)
    (found,) = artifacts(state.state_details.flow_run_id)
    assert found[:3] == (
        "dvc-stages",
        "table",
        "The stages of project: 2 of 4 ran.",
    )
    for name, outcome, reason in (
        ("first", "unchanged", ""),
        ("each@a", "ran", "parameter signs.a changed from plus to times"),
        ("each@b", "restored", "output parts/b.txt changed"),
        ("last", "ran", "dependency parts changed"),
    ):
        (row,) = [row for row in eval(found[3]) if row["stage"] == name]
        assert row["outcome"] == outcome
        assert reason in row["reason"]


def test_an_unknown_option_or_target_is_refused(project):
    with pytest.raises(TypeError, match="no_such_option"):
        DvcProject(project.root).run(no_such_option=True)
    with pytest.raises(ProjectError, match="'lost' not found"):
        DvcProject(project.root).run("lost")


@pytest.mark.slow
def test_other_runs_are_kept_out_while_the_project_is_locked(project):
    runs = DvcProject(project.root, wait=False)
    assert not runs.running
    with runs.locked():
        assert DvcProject(project.root).running
        with pytest.raises(ProjectError, match="Another run is at work"):
            runs.run()
    assert runs.run().ok
    assert not runs.running


@pytest.mark.slow
def test_only_the_targets_and_their_upstream_stages_run(project):
    result = DvcProject(project.root).run("each@b")
    assert [stage.name for stage in result] == ["first", "each@b"]
    assert runs_left(project) == {"each@a", "last"}


def runs_left(project):
    plan = DvcProject(project.root).plan()
    return {stage.name for stage in plan if stage.action is Action.RUN}
