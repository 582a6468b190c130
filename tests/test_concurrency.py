"""A flow, and others at work in the same checkout: what happens is defined.

Two flows, and a flow beside `dvc repro`, stand in `test_cases.py`. Everything here goes
on while a stage of the flow runs, which is when DVC's own lock is free.
"""

import subprocess
import sys

import pytest
from conftest import wait_until
from test_cases import ALL, CACHED, RESULT, flow, flow_beside, names, settled, told

pytestmark = [
    # DVC asks pygtrie so for the outputs of a stage.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
    pytest.mark.usefixtures("prefect_server"),
]


def dvc(project, *arguments) -> tuple[int, str]:
    """Run `dvc` to its end; return its status and what it said."""
    ended = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project.root,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return ended.returncode, ended.stdout


def of(running):
    """The states of the tasks of a flow that runs beside."""
    return running.result(60).result(raise_on_failure=False)


def test_an_experiment_in_the_workspace_is_refused_during_a_flow(built):
    built.edit("params.yaml", "a: plus", "a: times")
    built.hold("each@a")
    with flow_beside(built) as running:
        built.wait_for("each@a")
        status, said = dvc(built, "exp", "run", "--set-param", "text=good day")
        built.release("each@a")
        print("EXP", status, said)
        states = of(running)
    print("STATES", [told(s) for s in states])
    print(built.git("status", "--porcelain"), built.read("params.yaml"))
    assert 0


@pytest.mark.parametrize("how", ["--temp", "--queue"])
def test_an_experiment_elsewhere_runs_beside_a_flow(built, how):
    built.edit("params.yaml", "a: plus", "a: times")
    built.hold("each@a")
    with flow_beside(built) as running:
        built.wait_for("each@a")
        built.release("each@a")
        status, said = dvc(built, "exp", "run", how, "--set-param", "text=good day")
        print("EXP", status, said)
        states = of(running)
    print("STATES", [told(s) for s in states])
    print(built.git("status", "--porcelain"), built.read("params.yaml"), built.ran())
    assert 0


def test_what_a_later_stage_is_made_from_may_be_edited_meanwhile(project):
    project.hold("first")
    with flow_beside(project) as running:
        project.wait_for("first")
        project.edit("params.yaml", "a: plus", "a: times")
        project.edit("dvc.yaml", "sh last.sh", "sh last.sh again")
        project.edit("each.sh", 'sed "s/^/$2 /"', 'sed "s/^/$2: /"')
        project.release("first")
        states = of(running)
    assert [state.name for state in states] == ["Completed"] * 4
    assert project.ran() == ALL
    assert project.read("all.txt").startswith("times: hello\n")
    settled(project)


def test_a_stage_that_is_added_meanwhile_is_of_the_next_run(project):
    project.hold("first")
    with flow_beside(project) as running:
        project.wait_for("first")
        project.edit(
            "dvc.yaml", "stages:\n", "stages:\n  new: {cmd: touch new, outs: [new]}\n"
        )
        project.release("first")
        states = of(running)
    assert [state.name for state in states] == ["Completed"] * 4
    assert project.status() != {}
    assert names(flow(project)).count("Completed") == 1
    project.ran()
    settled(project)


def test_a_dvc_yaml_that_breaks_meanwhile_is_one_sentence(project):
    before = project.read("dvc.yaml")
    project.hold("first")
    with flow_beside(project) as running:
        project.wait_for("first")
        project.write("dvc.yaml", "stages: [")
        project.release("first")
        states = of(running)
    print([told(s) for s in states])
    assert project.lock() == {}
    project.write("dvc.yaml", before)
    assert flow(project).is_completed()
    project.ran()
    settled(project)


def test_an_output_that_is_edited_meanwhile_is_made_again(built):
    built.edit("params.yaml", "hello", "good day")
    built.hold("last")
    with flow_beside(built) as running:
        built.wait_for("last")
        built.write("parts/a.txt", "by hand\n")
        built.release("last")
        states = of(running)
    print([told(s) for s in states])
    assert flow(built).is_completed()
    assert "plus good day\n" in built.read("all.txt")
    built.ran()
    settled(built)


def test_gc_during_a_flow_takes_nothing_that_is_needed(built):
    built.edit("params.yaml", "hello", "good day")
    built.hold("last")
    with flow_beside(built) as running:
        built.wait_for("last")
        assert dvc(built, "gc", "--workspace", "--force")[0] == 0
        built.release("last")
        assert running.result(60).is_completed()
    built.ran()
    for name in ("data/first.txt", "parts/a.txt", "all.txt"):
        (built.root / name).unlink()
    assert names(flow(built)) == CACHED
    assert built.ran() == []
    settled(built)


def test_checkout_during_a_flow_leaves_new_results_alone(built):
    built.edit("params.yaml", "hello", "good day")
    built.edit("last.sh", "begin last\n", "")
    built.edit("last.sh", "end last\n", "begin last\nend last\n")
    built.hold("last")
    with flow_beside(built) as running:
        built.wait_for("last")
        status, said = dvc(built, "checkout")
        print("CHECKOUT", status, said, built.read("all.txt"))
        built.release("last")
        states = of(running)
    print([told(s) for s in states])
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
        built.wait_for("first")
        built.git("checkout", "--quiet", "other")
        built.release("first")
        (state, *others) = of(running)
    print(told(state), [told(s) for s in others])
    assert flow(built).is_completed()
    assert "plus earth\n" in built.read("all.txt")
    built.ran()
    settled(built)
