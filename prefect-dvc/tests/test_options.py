"""`DvcProject.run` takes the options of `dvc repro`, with the same effect.

Each case runs in two copies of a project, one with either engine. Afterwards both have
run the same stages and hold the same files, caches included.
"""

import shutil
from contextlib import chdir

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo
from random_projects import contents
from small_project import Project

from prefect_dvc import Action, DvcProject, RunFailed

pytestmark = [
    # DVC's own, when it looks up the outputs of a stage.
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
    pytest.mark.usefixtures("prefect_server"),
]
SECOND = """\
stages:
  count:
    cmd: . "$NOTES/body.sh"; begin count; wc -c < ../all.txt > count.txt
    deps: [../all.txt]
    outs: [count.txt]
  alone:
    cmd: . "$NOTES/body.sh"; begin alone; echo alone > alone.txt
    deps: [alone.sh]
    outs: [alone.txt]
"""


def edit_text(project):
    project.edit("params.yaml", "hello", "good day")


def edit_sign(project):
    project.edit("params.yaml", "a: plus", "a: times")


def edit_sources(project):
    edit_text(project)
    project.edit("last.sh", "cat parts", "cat ./parts")


def fail_first_sibling(project):
    edit_text(project)
    project.fail("each@a", 3, "There is no more paper.")


def set_back(project):
    edit_text(project)
    project.repro(all_pipelines=True)
    project.edit("params.yaml", "good day", "hello")


def lose_data(project):
    for name in ("data/first.txt", "parts/a.txt"):
        (project.root / name).unlink()
    shutil.rmtree(project.root / ".dvc/cache/files")


def nothing(_project):
    pass


@pytest.fixture
def twins(project, tmp_path, monkeypatch):
    """Two copies of a project with a second dvc.yaml, after `dvc repro`."""
    (project.root / "second").mkdir()
    project.write("second/dvc.yaml", SECOND)
    project.write("second/alone.sh", "")
    remote = tmp_path / "remote"
    config = f'    remote = here\n[remote "here"]\n    url = {remote}\n'
    project.write(".dvc/config", project.read(".dvc/config") + config)
    project.repro(all_pipelines=True)
    with chdir(project.root), Repo() as repo:
        repo.push(run_cache=True)
    project.ran()
    project.commit()

    def twins(edit):
        twin = Project(tmp_path / "twin", project.notes)
        edit(project)
        shutil.copytree(project.root, twin.root, symlinks=True)
        project.ran()
        return project, twin

    return twins


def run_repro(twin, targets, options, folder="."):
    """Run `dvc repro`; return the stages that ran and whether it failed."""
    given = dict(options)
    run_cache = not given.pop("no_run_cache", False)
    on_error = "keep-going" if given.pop("keep_going", False) else "fail"
    on_error = "ignore" if given.pop("ignore_errors", False) else on_error
    failed = False
    with chdir(twin.root / folder), Repo() as repo:
        try:
            repo.reproduce(targets, on_error=on_error, run_cache=run_cache, **given)
        except DvcException:
            failed = True
    return twin.ran(), failed


# The cases that also run by default; the others are slow.
FAST = {"downstream", "keep_going", "pull and force_downstream"}
CASES = {
    "force": (nothing, None, {"force": True}),
    "a target": (edit_text, ["each@b"], {}),
    "a group": (edit_text, ["each"], {}),
    "single_item": (edit_sources, ["last"], {"single_item": True}),
    "single_item of two": (edit_text, ["last", "first"], {"single_item": True}),
    "downstream": (edit_sources, ["each@a"], {"downstream": True}),
    "force_downstream": (edit_sign, None, {"force_downstream": True}),
    "force_downstream restored": (set_back, None, {"force_downstream": True}),
    "pipeline": (edit_text, ["each@a"], {"pipeline": True}),
    "all_pipelines": (edit_text, None, {"all_pipelines": True}),
    "recursive": (edit_text, ["second"], {"recursive": True}),
    "glob": (edit_text, ["eac*"], {"glob": True}),
    "a stage of another dvc.yaml": (edit_text, ["second/dvc.yaml:count"], {}),
    "another dvc.yaml": (edit_text, ["second/dvc.yaml"], {}),
    "keep_going": (fail_first_sibling, None, {"keep_going": True}),
    "ignore_errors": (fail_first_sibling, None, {"ignore_errors": True}),
    "pull": (lose_data, None, {"pull": True}),
    "pull and force_downstream": (
        lose_data,
        None,
        {"pull": True, "force_downstream": True},
    ),
    "allow_missing": (lose_data, None, {"allow_missing": True}),
    "allow_missing and an edit": (
        lambda project: (lose_data(project), edit_sign(project)),
        None,
        {"allow_missing": True},
    ),
    "no_commit": (edit_text, None, {"no_commit": True}),
    "no_run_cache": (set_back, None, {"no_run_cache": True}),
    "the run cache": (set_back, None, {}),
}


@pytest.mark.parametrize(
    "case",
    [
        case if case in FAST else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
    ],
)
def test_an_option_has_the_same_effect_as_for_repro(twins, case):
    edit, targets, options = CASES[case]
    project, twin = twins(edit)
    result = DvcProject(project.root).run(targets, raise_on_failure=False, **options)
    ran, failed = project.ran(), not result.ok
    twin.seen = project.seen
    assert (ran, failed) == run_repro(twin, targets, options)
    assert contents(project.root) == contents(twin.root)


@pytest.mark.slow
def test_a_subfolder_with_a_dvc_yaml_is_a_project(twins):
    project, twin = twins(edit_text)
    DvcProject(project.root / "second").run()
    ran = project.ran()
    twin.seen = project.seen
    assert (ran, False) == run_repro(twin, None, {}, folder="second")
    assert contents(project.root) == contents(twin.root)


def test_stages_after_a_failure_do_not_start_by_default(project):
    project.write(
        "dvc.yaml",
        """\
stages:
  bad: {cmd: exit 3}
  slow:
    cmd: . "$NOTES/body.sh"; begin slow; echo 1 > slow.txt
    outs: [slow.txt]
  after_slow:
    cmd: . "$NOTES/body.sh"; begin after_slow
    deps: [slow.txt]
""",
    )
    project.hold("slow")
    run = DvcProject(project.root, jobs=2)

    @run.on_stage("bad")
    def release(_result):
        project.release("slow")

    with pytest.raises(RunFailed, match="ended with status 3") as failure:
        run.run()
    outcomes = {stage.name: str(stage.outcome) for stage in failure.value.result}
    assert outcomes == {"bad": "failed", "slow": "ran", "after_slow": "skipped"}
    assert project.ran() == ["slow"]


@pytest.mark.slow
def test_a_missing_remote_file_is_planned_as_restored_only_with_pull(twins):
    project, _ = twins(lose_data)
    plan = DvcProject(project.root).plan()
    assert plan.stage("first").action is Action.RUN
    pulling = DvcProject(project.root).plan(pull=True)
    assert pulling.stage("first").action is Action.RESTORE
