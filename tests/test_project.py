"""Names, graph, dependencies and documents of the project agree with each other."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from imports import code_dependencies
from packaging.requirements import Requirement
from samples import ROOT

from prefect_dvc import DvcProject, Plan
from prefect_dvc.stage_options import StageOptions

STEPS = ["download", "validate", "normalize", "baseline", "train", "evaluate", "report"]
# Steps outside the graph.
OTHER_STEPS = ["promote", "predict"]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def planned() -> Plan:
    return DvcProject(ROOT).plan()


def test_a_step_has_one_name_in_dvc_yaml_tasks_tests_and_parameters(planned):
    assert list(DVC) == STEPS
    names = [stage.name.partition("@")[0] for stage in planned]
    assert list(dict.fromkeys(names)) == STEPS
    for step in [*STEPS, *OTHER_STEPS]:
        module = importlib.import_module(f"tasks.{step}")
        assert inspect.isfunction(getattr(module, step)), step
        assert (ROOT / "tests" / "tasks" / f"test_{step}.py").exists(), step
    # `dataset` names the dataset card; no step reads `schedule`.
    assert set(PARAMS) <= {*STEPS, *OTHER_STEPS, "dataset", "schedule"}


def test_no_stage_depends_on_the_champion():
    ignored = (ROOT / ".dvcignore").read_text().splitlines()
    assert "models/champion*" in ignored
    assert all(
        "champion" not in dep for name in STEPS for dep in body(DVC[name])["deps"]
    )


def body(stage: dict) -> dict:
    return stage.get("do", stage)


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_depends_on_the_folders_that_it_imports_from(step):
    listed = {dep for dep in body(DVC[step])["deps"] if dep.startswith("tasks/")}
    assert listed == code_dependencies(step)


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_tracks_every_parameter_of_its_section(step):
    tracked = body(DVC[step]).get("params", [])
    assert (
        step not in PARAMS
        or step in tracked
        or {f"train.{key}" for key in PARAMS["train"] if key != "variants"}
        | {"train.variants.${key}"}
        == set(tracked)
    )


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_tracks_its_section_of_the_dataset_card(step):
    card = yaml.safe_load((ROOT / "datasets" / "mnist.yaml").read_text())
    tracked = [
        key
        for entry in body(DVC[step]).get("params", [])
        if isinstance(entry, dict)
        for key in entry["datasets/${dataset}.yaml"]
    ]
    assert set(tracked) <= set(card)
    assert step not in card or step in tracked


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_has_a_description_and_a_time_limit(step):
    options = StageOptions.model_validate(body(DVC[step])["meta"]["prefect"])
    assert options.timeout_seconds
    assert body(DVC[step])["desc"].endswith(".")


def importing(*modules: str) -> set[str]:
    """Return the packages that importing `modules` loads in a new interpreter."""
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return {name.partition(".")[0] for name in ended.stdout.split()}


def test_no_step_imports_prefect_or_dvc():
    modules = [f"tasks.{path.stem}" for path in (ROOT / "tasks").glob("[a-z]*.py")]
    assert not {"prefect", "dvc", "flows"} & importing(*modules)


def test_a_plan_needs_neither_prefect_nor_the_steps():
    loaded = importing("prefect_dvc.dvc_repo", "prefect_dvc.processes")
    assert not {"prefect", "tasks", "torch", "sklearn"} & loaded


def test_prefect_dvc_does_not_import_tasks_or_flows():
    for path in (ROOT / "prefect-dvc" / "src").rglob("*.py"):
        assert not re.search(
            r"^\s*(from|import) (tasks|flows)\b", path.read_text(), re.MULTILINE
        )


def test_steps_import_only_the_heavy_libraries_that_they_use():
    heavy = {"torch", "sklearn", "matplotlib", "pandera", "pandas"}
    assert heavy & importing("tasks.normalize") == set()
    assert heavy & importing("tasks.train") == {"torch"}
    # scikit-learn imports pandas.
    assert heavy & importing("tasks.baseline") == {"sklearn", "pandas"}


def test_prefect_uses_the_settings_in_pyproject(tmp_path):
    program = (
        "from prefect.settings import get_current_settings as s;"
        "print(s().server.analytics_enabled,"
        " s().server.ephemeral.startup_timeout_seconds,"
        " s().cloud.enable_orchestration_telemetry)"
    )
    own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**own, "PREFECT_HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ended.stdout.split() == ["False", "60", "False"]


def test_readme_figures_exist():
    paths = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(paths) >= 2
    for path in paths:
        assert (ROOT / path).is_file(), path


def test_readme_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for module in re.findall(r"python -m ((?:flows|tasks)\.\w+)", README):
        assert Path(ROOT, *module.split(".")).with_suffix(".py").exists(), module


def test_make_creates_a_new_environment_in_a_moved_checkout(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "prefect-dvc").mkdir()
    for name in (
        *("Makefile", "pyproject.toml", "constraints.txt"),
        "prefect-dvc/pyproject.toml",
    ):
        shutil.copy(ROOT / name, old / name)

    # Variables of an outer `make` would print the folder.
    own = {name: value for name, value in os.environ.items() if "MAKE" not in name}

    def make(folder: Path, option: str) -> subprocess.CompletedProcess[str]:
        command = ["make", option, "install"]
        return subprocess.run(
            command, cwd=folder, env=own, check=False, capture_output=True, text=True
        )

    stamp = old / make(old, "-n").stdout.split()[-1]
    stamp.parent.mkdir()
    stamp.touch()
    assert make(old, "-q").returncode == 0
    old.rename(new)
    assert make(new, "-q").returncode == 1


def test_tests_named_in_security_md_exist():
    folders = (ROOT / "tests", ROOT / "prefect-dvc" / "tests")
    paths = [path for folder in folders for path in folder.rglob("test_*.py")]
    written = "".join(path.read_text() for path in paths)
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) > 30
    for name in named:
        assert f"def {name}(" in written, name


def test_code_loads_no_pickle():
    loading = re.compile(
        r"\b(?:torch|joblib|pickle|np|numpy|cloudpickle|marshal|shelve|dill)\.loads?\("
        r"|read_pickle|allow_pickle=True|yaml\.(?:unsafe|full)_load|(?<![\w.])(?:eval|exec)\("
    )
    folders = ("tasks", "flows", "prefect-dvc/src")
    for path in (path for name in folders for path in (ROOT / name).rglob("*.py")):
        assert not loading.search(path.read_text()), path


def test_ci_runs_checks_and_all_tests():
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test-all" in script
    assert "make check" in script


def test_pinned_versions_are_in_the_declared_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    pinned = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    for text in [*project["dependencies"], *extras]:
        wanted = Requirement(text)
        assert pinned[wanted.name.lower()] in wanted.specifier, text
