"""Random projects end as under `dvc repro` after any edits, and as planned.

`PREFECT_DVC_PROJECTS=1000` tries 1,000 projects instead of a few.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import chdir
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from random_projects import State, contents, rounds, steps

from prefect_dvc import DvcProject
from prefect_dvc.dvc_repo import DvcRepo
from prefect_dvc.errors import ProjectError
from prefect_dvc.options import RunOptions
from prefect_dvc.plan import Action
from prefect_dvc.results import Outcome

# DVC's own, when it looks up the outputs of a stage.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning"),
    pytest.mark.timeout(0),
]
PROJECTS = int(os.environ.get("PREFECT_DVC_PROJECTS", "0"))
COUNTS: Counter[str] = Counter()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An empty DVC repository, and a folder for DVC's own files."""
    base = tmp_path_factory.mktemp("random")
    root = base / "template"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    # Otherwise a folder's hash would depend on the order in which stages are recorded.
    (root / ".dvcignore").write_text(".gitignore\n")
    (root / "work").mkdir()
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE"):
            patch.setenv(f"DVC_{name}_DIR", str(base / name.lower()))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("SHELL", "/bin/sh")
        yield root
    print(f"\n{dict(sorted(COUNTS.items()))}", file=sys.stderr)


def repro(root, options, targets):
    """Run `dvc repro`; return whether it failed."""
    names = {"no_run_cache", "keep_going", "ignore_errors"}
    given = {name: value for name, value in options.items() if name not in names}
    on_error = "keep-going" if "keep_going" in options else "fail"
    try:
        with chdir(root), Repo() as repo:
            repo.reproduce(
                targets,
                on_error="ignore" if "ignore_errors" in options else on_error,
                run_cache="no_run_cache" not in options,
                **given,
            )
    except DvcException as error:
        note(f"dvc repro: {error!r} {error.__cause__!r}")
        return True
    return False


def never(_seconds):
    raise AssertionError("It waits, but nothing else is at work.")


def planned(root, options):
    """Return the plan, which must change nothing."""
    before = contents(root)
    with chdir(root):
        plan = DvcRepo(root, options, wait=False, pause=never).plan()
    assert contents(root) == before
    return {stage.name: stage for stage in plan}


def run(root, options):
    """Run the stages one by one; return their outcomes."""
    outcomes = {}
    skipped, forced = set(), set()
    goes_on = options.keep_going or options.ignore_errors
    with chdir(root):
        repo = DvcRepo(root, options, wait=False, pause=never)
        selected = repo.select()
        for name, chosen in selected.items():
            if name in skipped:
                outcomes[name] = Outcome.SKIPPED
                skipped |= set(chosen.feeds)
                continue
            try:
                with repo.opened(name, force=name in forced) as stage:
                    outcomes[name] = stage.outcome or Outcome.RAN
                    for command in stage.commands:
                        subprocess.run(command, **stage.process, check=True)
                    stage.record()
                    reproduced = stage.reproduced
            except (ProjectError, subprocess.CalledProcessError) as error:
                note(f"{name}: {error!r}")
                outcomes[name] = Outcome.FAILED
                if not options.ignore_errors and not options.only_targets:
                    skipped |= set(chosen.feeds)
                if not goes_on:
                    break
                continue
            if options.force_downstream and (reproduced or name in forced):
                forced |= set(chosen.feeds)
    return outcomes


def run_in_a_flow(root, options):
    """Run the project in a flow of its own; return the outcomes of its stages."""
    given = {
        item.name: value
        for item in fields(options)
        if item.name != "targets" and (value := getattr(options, item.name))
    }
    project = DvcProject(root, jobs=2)
    result = project.run(options.targets, raise_on_failure=False, **given)
    return {stage.name: stage.outcome for stage in result}


def check_plan(plan, outcomes):
    """Check that each stage did what was planned.

    A stage that reads the output of another one may end unchanged instead of running.
    """
    open_ended = set()
    for name, stage in plan.items():
        after_run = any(up in open_ended for up in stage.upstream)
        if stage.action is Action.RUN or after_run:
            open_ended.add(name)
        outcome = outcomes.get(name, Outcome.SKIPPED)
        if outcome is Outcome.SKIPPED:
            continue
        allowed = {
            Action.UNCHANGED: {Outcome.UNCHANGED},
            Action.RESTORE: {Outcome.RESTORED},
            Action.RUN: {Outcome.RAN, Outcome.FAILED},
        }[stage.action]
        if stage.action is Action.RUN and "is made by" in stage.reason:
            allowed |= {Outcome.UNCHANGED, Outcome.RESTORED}
        COUNTS[f"planned {stage.action}"] += 1
        assert outcome in allowed, (name, stage.action, stage.reason, outcome)


def keep_ignored(theirs, ours):
    """Add to their .gitignore the lines that only ours has.

    If a stage fails, `dvc repro` removes the outputs of all stages of that run from
    .gitignore, also of those that it recorded in dvc.lock.
    """
    for path in ours.rglob(".gitignore"):
        twin = theirs / path.relative_to(ours)
        lines = set(twin.read_text().splitlines()) if twin.exists() else set()
        if lines < set(path.read_text().splitlines()):
            shutil.copy(path, twin)


def log(path):
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def status(root):
    with chdir(root), Repo() as repo:
        return repo.status()


def one_round(roots, edits, options, targets, state, control, engine):
    theirs, ours = roots
    for what, name in edits:
        note(state.edit(what, name, roots, control))
    present = [name for name in targets if name not in state.removed]
    options = dict(options)
    if engine is run_in_a_flow and "ignore_errors" not in options:
        # Otherwise it depends on the clock which stages run before a failure.
        options["keep_going"] = True
    chosen = None
    if options.pop("targets", False) and present:
        addresses = {
            step.name: f"sub/dvc.yaml:{step.name}"
            if step.location == "sub"
            else step.name
            for step in state.steps
        }
        chosen = [addresses[name] for name in present]
        if "glob" in options:
            chosen = [f"{name[:-1]}[{name[-1]}]*" for name in chosen]
    else:
        options = {
            name: value
            for name, value in options.items()
            if name not in {"single_item", "downstream", "pipeline", "glob"}
        } | {"all_pipelines": True}
    note(f"run {options} {chosen}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTROL", str(control))
        patch.setenv("LOG", str(control / "theirs"))
        failed = repro(theirs, options, chosen)
        patch.setenv("LOG", str(control / "ours"))
        run_options = RunOptions.of(chosen, **options)
        try:
            plan = planned(ours, run_options)
            outcomes = engine(ours, run_options)
        except ProjectError as error:
            note(f"refused: {error}")
            plan, outcomes = {}, {"": Outcome.FAILED}
    note(f"plan: { {n: (str(s.action), s.reason) for n, s in plan.items()} }")
    note(f"outcomes: { {n: str(s) for n, s in outcomes.items()} }")
    # Stages of a flow run side by side.
    assert sorted(log(control / "ours")) == sorted(log(control / "theirs"))
    if not run_options.ignore_errors:
        assert (Outcome.FAILED in outcomes.values()) == failed
    if failed:
        keep_ignored(*roots)
    assert contents(ours) == contents(theirs)
    assert status(ours) == status(theirs)
    check_plan(plan, outcomes)
    COUNTS["rounds"] += 1
    COUNTS["edits"] += len(edits)
    COUNTS["failures"] += failed
    COUNTS.update(f"stages {outcome}" for outcome in outcomes.values())


def differential(template, made, data, engine):
    with TemporaryDirectory(dir=template.parent) as folder:
        roots = Path(folder, "theirs"), Path(folder, "ours")
        control = Path(folder, "control")
        control.mkdir()
        state = State(made)
        for root in roots:
            shutil.copytree(template, root)
            state.write(root)
            with chdir(root), Repo() as repo:
                repo.add("tracked.txt")
        note(roots[0].joinpath("dvc.yaml").read_text())
        note(roots[0].joinpath("sub/dvc.yaml").read_text())
        names = [step.name for step in made]
        first = ([("nothing", names[0])], {}, names[:1])
        for edits, options, targets in [
            first,
            *data.draw(rounds(names, 6 if PROJECTS else 3)),
        ]:
            one_round(roots, edits, options, targets, state, control, engine)
    COUNTS["projects"] += 1


def examples(number):
    """Return Hypothesis settings: `number` projects, always the same, or PROJECTS."""
    return settings(
        max_examples=PROJECTS or number,
        derandomize=not PROJECTS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        phases=[Phase.generate] if PROJECTS else list(Phase),
    )


@examples(3)
@given(made=steps(), data=st.data())
def test_a_random_project_ends_as_under_repro_and_as_planned(template, made, data):
    differential(template, made, data, run)


@pytest.mark.usefixtures("prefect_server")
@examples(1)
@given(made=steps(), data=st.data())
def test_a_random_project_in_a_flow_ends_as_under_repro(template, made, data):
    differential(template, made, data, run_in_a_flow)
