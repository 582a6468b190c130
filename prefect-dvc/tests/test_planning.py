"""A plan says what a run will do with each stage and why, and changes nothing."""

import hashlib
import shutil
import subprocess
import sys

import pytest
from random_projects import contents

from prefect_dvc import Action, ProjectError, RunOptions
from prefect_dvc.dvc_repo import plan

# DVC's own, when it looks up the outputs of a stage.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")


def planned(project, *targets, **options):
    """Plan, and check that nothing changes; return action and reason of each stage."""
    before = contents(project.root)
    found = plan(project.root, RunOptions.of(targets, **options))
    assert contents(project.root) == before
    assert project.ran() == []
    return {stage.name: (stage.action, stage.reason) for stage in found}


def actions(project, *targets, **options):
    found = planned(project, *targets, **options)
    return {name: action.value for name, (action, _) in found.items()}


def test_a_project_that_never_ran_runs_completely(project):
    found = planned(project)
    assert found["first"] == (
        Action.RUN,
        "stage has never run",
    )
    assert {action for action, _ in found.values()} == {Action.RUN}


def test_nothing_runs_after_repro(built):
    assert set(planned(built).values()) == {(Action.UNCHANGED, "")}


def test_an_edited_parameter_is_named_with_its_values(built):
    built.edit("params.yaml", "a: plus", "a: times")
    found = planned(built)
    assert found["each@a"] == (
        Action.RUN,
        (
            "command changed from sh each.sh a plus to sh each.sh a times; "
            "parameter signs.a changed from plus to times"
        ),
    )
    assert found["last"] == (
        Action.RUN,
        "dependency parts is made by a stage that runs",
    )
    assert found["first"] == found["each@b"] == (Action.UNCHANGED, "")


def test_a_parameter_of_zero_is_a_value(project):
    project.write("params.yaml", "text: 1\nsigns: {a: plus}\n")
    project.repro()
    project.ran()
    project.write("params.yaml", "text: 0\nsigns: {a: plus}\n")
    _, reason = planned(project)["first"]
    assert reason == "parameter text changed from 1 to 0"


def test_an_edited_source_is_named_with_its_digests(built):
    built.edit("source.txt", "world", "earth")
    old, new = (hashlib.md5(text).hexdigest()[:8] for text in (b"world\n", b"earth\n"))
    assert planned(built)["first"] == (
        Action.RUN,
        f"dependency source.txt changed from {old} to {new}",
    )


def test_an_edited_command_is_named(built):
    built.edit("dvc.yaml", "sh last.sh", "sh last.sh again")
    assert planned(built)["last"] == (
        Action.RUN,
        "command changed from sh last.sh to sh last.sh again",
    )


def test_a_missing_dependency_is_named(built):
    (built.root / "source.txt").unlink()
    action, reason = planned(built)["first"]
    assert (action, reason) == (Action.RUN, "dependency source.txt is missing")


def test_deleted_outputs_are_all_restored(built):
    for stage in built.lock().values():
        for out in stage["outs"]:
            (built.root / out["path"]).unlink()
    found = planned(built)
    assert found["each@a"] == (Action.RESTORE, "output parts/a.txt is missing")
    assert {action for action, _ in found.values()} == {Action.RESTORE}
    built.repro()
    assert built.ran() == []


def test_deleted_folders_are_all_restored(built):
    shutil.rmtree(built.root / "parts")
    (built.root / "data/first.txt").unlink()
    assert actions(built) == {
        "first": "restore",
        "each@a": "restore",
        "each@b": "restore",
        "last": "unchanged",
    }
    built.repro()
    assert built.ran() == []


def test_a_corrupted_output_is_restored(built):
    built.write("parts/a.txt", "wrong\n")
    found = planned(built)
    action, reason = found["each@a"]
    assert action is Action.RESTORE
    assert reason.startswith("output parts/a.txt changed from ")
    # The folder that it is in will be what it was.
    assert found["last"] == (Action.UNCHANGED, "")


@pytest.mark.slow
def test_a_parameter_set_back_is_restored_with_its_downstream_stages(built):
    built.edit("params.yaml", "hello", "good day")
    assert set(actions(built).values()) == {"run"}
    built.repro()
    built.ran()
    built.git("checkout", "params.yaml")
    assert set(actions(built).values()) == {"restore"}
    built.repro()
    assert built.ran() == []
    # So is what `git checkout` puts back: the outputs differ from an older dvc.lock.
    built.edit("params.yaml", "hello", "good day")
    built.repro()
    built.git("checkout", ".")
    assert set(actions(built).values()) == {"restore"}


def test_a_file_inside_a_restored_folder_is_known(project):
    project.write(
        "dvc.yaml",
        """\
stages:
  make:
    cmd: mkdir -p made/below; cp source.txt made/below/one; echo 2 > made/two
    deps: [source.txt]
    outs: [made]
  one: {cmd: cp made/below/one one, deps: [made/below/one], outs: [one]}
  below: {cmd: cat made/below/one > below, deps: [made/below], outs: [below]}
  two: {cmd: cp made/two two, deps: [made/two], outs: [two]}
""",
    )
    project.repro()
    project.edit("source.txt", "world", "earth")
    project.repro()
    project.edit("source.txt", "earth", "world")
    assert actions(project) == {
        "make": "restore",
        "one": "restore",
        "below": "restore",
        "two": "unchanged",
    }


def test_outputs_without_a_cache_run_again(built):
    shutil.rmtree(built.root / ".dvc/cache")
    found = planned(built)
    assert {action for action, _ in found.values()} == {Action.RUN}
    assert found["first"][1] == "output data/first.txt is not in the cache"


def test_a_frozen_stage_is_unchanged_until_its_output_is(built):
    built.edit("dvc.yaml", "  first:\n", "  first:\n    frozen: true\n")
    built.edit("source.txt", "world", "earth")
    assert set(actions(built).values()) == {"unchanged"}
    built.write("data/first.txt", "by hand\n")
    found = planned(built)
    assert found["first"][0] is Action.RUN
    # It keeps the file, so the plan knows what the next stages read.
    assert found["each@a"][1].startswith("dependency data/first.txt changed from ")


def test_options_and_targets_are_followed(built):
    assert planned(built, "first", force=True) == {
        "first": (Action.RUN, "stage is forced to run")
    }
    built.edit("params.yaml", "a: plus", "a: times")
    assert actions(built, "each@b") == {"first": "unchanged", "each@b": "unchanged"}
    assert actions(built, "each@b", downstream=True) == {
        "each@b": "unchanged",
        "last": "unchanged",
    }
    assert actions(built, "last", single_item=True) == {"last": "unchanged"}
    assert actions(built, force_downstream=True) == {
        "first": "unchanged",
        "each@a": "run",
        "each@b": "unchanged",
        "last": "run",
    }


def test_allow_missing_skips_stages_that_only_miss_data(built):
    shutil.rmtree(built.root / ".dvc/cache")
    for name in ("data/first.txt", "parts/a.txt"):
        (built.root / name).unlink()
    assert set(actions(built).values()) == {"run"}
    found = actions(built, allow_missing=True)
    assert found["first"] == found["each@a"] == found["each@b"] == "unchanged"


def test_an_unknown_target_is_refused(project):
    with pytest.raises(ProjectError, match="'lost' not found"):
        planned(project, "lost")


def test_a_plan_prints_as_a_table(built):
    built.edit("dvc.yaml", "sh last.sh", "sh last.sh again")
    text = str(plan(built.root, RunOptions()))
    assert text.splitlines()[0].split() == ["stage", "action", "last", "reason"]
    assert text.splitlines()[-1].split()[:2] == ["last", "run"]


PLAN = """\
import sys
from prefect_dvc.options import RunOptions
from prefect_dvc.dvc_repo import plan
assert len(plan(".", RunOptions())) == 4
assert "prefect" not in sys.modules
"""


def test_a_plan_does_not_import_prefect(project):
    subprocess.run([sys.executable, "-c", PLAN], cwd=project.root, check=True)
