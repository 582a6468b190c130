"""A flow beside edits and other DVC commands in the same checkout.

Two flows, and a flow beside `dvc repro`, are in `test_both_engines.py`. Everything here
happens while a stage of the flow runs, because DVC's own lock is free then.
"""

import subprocess
import sys

import pytest
from test_both_engines import ALL, CACHED, described, flow, flow_beside, names, settled

pytestmark = [
    pytest.mark.slow,
    # DVC's own, when it looks up the outputs of a stage.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
    pytest.mark.usefixtures("prefect_server"),
]

REFUSED = (
    "Failed: A dependency of stage '{}' was edited while it ran, so its result was not "
    "recorded; run the pipeline again."
)


def dvc(project, *arguments) -> tuple[int, str]:
    """Run `dvc` to its end; return its status and its output."""
    ended = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project.root,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stdout


def states_of(running):
    """Return the states of the tasks of a flow that runs beside the test."""
    return running.result(60).result(raise_on_failure=False)


def test_an_experiment_in_the_workspace_is_refused_during_a_flow(built):
    built.edit("params.yaml", "a: plus", "a: times")
    built.hold("each@a")
    with flow_beside(built) as running:
        built.wait_for("each@a", times=2)
        status, said = dvc(built, "exp", "run", "--set-param", "text=good day")
        built.release("each@a")
        assert [state.name for state in states_of(running)] == [
            "Cached",
            "Completed",
            "Cached",
            "Completed",
        ]
    assert status == 255
    assert "is busy, it is being blocked by" in said
    # Its parameter stays in the workspace: the next run would use it.
    assert "text: good day" in built.read("params.yaml")
    built.edit("params.yaml", "good day", "hello")
    assert built.ran() == ["each@a", "last"]
    settled(built)


@pytest.mark.parametrize("how", ["--temp", "--queue"])
def test_an_experiment_elsewhere_does_not_disturb_a_flow(built, how):
    built.edit("params.yaml", "a: plus", "a: times")
    built.hold("each@a")
    with flow_beside(built) as running:
        built.wait_for("each@a", times=2)
        # Only the first stage: the others would wait too.
        status, said = dvc(built, "exp", "run", how, "-S", "text=good day", "first")
        built.release("each@a")
        assert running.result(60).is_completed()
    assert status == 0, said
    assert built.read("params.yaml") == "text: hello\nsigns: {a: times, b: minus}\n"
    ran = ["each@a", "last"] if how == "--queue" else ["each@a", "first", "last"]
    assert built.ran() == ran
    settled(built)


def test_a_later_stage_uses_the_inputs_edited_before_it_starts(project):
    project.hold("first")
    with flow_beside(project) as running:
        project.wait_for("first")
        project.edit("params.yaml", "a: plus", "a: times")
        project.edit("dvc.yaml", "sh last.sh", "sh last.sh again")
        project.edit("each.sh", 'sed "s/^/$2 /"', 'sed "s/^/$2: /"')
        project.release("first")
        states = states_of(running)
    assert [state.name for state in states] == ["Completed"] * 4
    assert project.ran() == ALL
    assert project.read("all.txt").startswith("times: hello\n")
    settled(project)


def test_a_stage_added_during_a_flow_runs_in_the_next_one(project):
    project.hold("first")
    with flow_beside(project) as running:
        project.wait_for("first")
        project.edit(
            "dvc.yaml", "stages:\n", "stages:\n  new: {cmd: touch new, outs: [new]}\n"
        )
        project.release("first")
        states = states_of(running)
    assert [state.name for state in states] == ["Completed"] * 4
    assert project.status() != {}
    assert names(flow(project)).count("Completed") == 1
    project.ran()
    settled(project)


def test_a_dvc_yaml_broken_during_a_flow_fails_in_one_sentence(project):
    before = project.read("dvc.yaml")
    project.hold("first")
    with flow_beside(project) as running:
        project.wait_for("first")
        project.write("dvc.yaml", "stages: [")
        project.release("first")
        states = states_of(running)
    assert described(states[0]).startswith(
        "Failed: unable to read: 'dvc.yaml', YAML file"
    )
    assert "\n" not in states[0].message
    assert project.lock() == {}
    project.write("dvc.yaml", before)
    assert flow(project).is_completed()
    project.ran()
    settled(project)


def test_an_output_edited_during_a_flow_is_made_again(built):
    built.edit("params.yaml", "hello", "good day")
    built.hold("last")
    with flow_beside(built) as running:
        built.wait_for("last", times=2)
        built.write("parts/a.txt", "by hand\n")
        built.release("last")
        states = states_of(running)
    assert [state.name for state in states[:3]] == ["Completed"] * 3
    assert described(states[3]) == REFUSED.format("last")
    assert flow(built).is_completed()
    assert "plus good day\n" in built.read("all.txt")
    built.ran()
    settled(built)


def test_gc_during_a_flow_removes_nothing_that_is_needed(built):
    built.edit("params.yaml", "hello", "good day")
    built.hold("last")
    with flow_beside(built) as running:
        built.wait_for("last", times=2)
        assert dvc(built, "gc", "--workspace", "--force")[0] == 0
        built.release("last")
        assert running.result(60).is_completed()
    built.ran()
    for name in ("data/first.txt", "parts/a.txt", "all.txt"):
        (built.root / name).unlink()
    assert names(flow(built)) == CACHED
    assert built.ran() == []
    settled(built)


def test_checkout_during_a_flow_keeps_new_results(built):
    built.edit("params.yaml", "hello", "good day")
    built.edit("last.sh", "begin last\n", "")
    built.edit("last.sh", "end last\n", "begin last\nend last\n")
    built.hold("last")
    with flow_beside(built) as running:
        built.wait_for("last", times=2)
        status, said = dvc(built, "checkout")
        built.release("last")
        assert running.result(60).is_completed()
    assert status == 255
    assert "Can't remove the following unsaved files without confirmation" in said
    assert "plus good day\n" in built.read("all.txt")
    built.ran()
    settled(built)


def test_git_checkout_during_a_flow_is_an_edit_like_any_other(built):
    built.git("checkout", "--quiet", "-b", "other")
    built.edit("source.txt", "world", "earth")
    built.edit("params.yaml", "hello", "good day")
    built.commit()
    built.git("checkout", "--quiet", "-")
    built.edit("first.sh", "# The text", "# First the text")
    built.hold("first")
    with flow_beside(built) as running:
        built.wait_for("first", times=2)
        built.git("checkout", "--quiet", "other")
        built.release("first")
        (state, *others) = states_of(running)
    assert described(state) == REFUSED.format("first")
    assert [other.name for other in others] == ["NotReady"] * 3
    assert flow(built).is_completed()
    assert "plus earth\n" in built.read("all.txt")
    built.ran()
    settled(built)
