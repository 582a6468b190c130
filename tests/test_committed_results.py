"""The results in git belong to the code and the parameters in git."""

import ast
import importlib
import subprocess

import pytest
import yaml
from conftest import ROOT

from prefect_dvc import DvcProject

pytestmark = pytest.mark.slow

LOCKS = {"dvc.lock": "make run", "experiments/seeds/dvc.lock": "make seeds"}


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def code(path: str, source: str) -> str:
    """A file's content; of Python, without comments and docstrings."""
    if not path.endswith(".py"):
        return source
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)


@pytest.mark.parametrize("lock", LOCKS)
def test_code_is_the_same_as_when_the_results_were_made(lock):
    stages = yaml.safe_load((ROOT / lock).read_text())["stages"]
    paths = {dep["path"] for stage in stages.values() for dep in stage["deps"]}
    paths = {path for path in paths if path.startswith("tasks/")}
    commit = git("log", "-1", "--format=%H", "--", lock).strip()
    changed = []
    for path in git("diff", "--name-only", commit, "--", *sorted(paths)).splitlines():
        known = git("ls-tree", commit, "--", path) and (ROOT / path).exists()
        now = (ROOT / path).read_text() if known else ""
        if not known or code(path, git("show", f"{commit}:{path}")) != code(path, now):
            changed.append(path)
    assert not changed, (
        f"changed after {lock}; run `{LOCKS[lock]}` and commit the results"
    )


def test_parameters_are_the_same_as_when_the_results_were_made():
    for stage in DvcProject(ROOT).plan():
        for change in stage.changes:
            # Code is checked above; the data itself is not in git.
            assert change.what in {"dependency", "output"}, f"{stage.name}: {change}"


def test_seeds_report_has_the_seeds_and_variants_of_the_settings():
    seeds = ROOT / "experiments" / "seeds"
    stages = yaml.safe_load((seeds / "dvc.lock").read_text())["stages"]
    numbers = yaml.safe_load((seeds / "seeds.yaml").read_text())["seeds"]
    variants = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]["variants"]
    assert stages.keys() == {"compare_seeds"} | {
        f"retrain@{variant}-{seed}" for variant in variants for seed in numbers
    }
    recorded = stages["compare_seeds"]["params"]
    assert recorded["params.yaml"]["train.variants"] == variants
    assert recorded["seeds.yaml"]["seeds"] == numbers


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_tables_have_the_committed_results(page, monkeypatch):
    if git("status", "--porcelain", "--", "reports"):
        pytest.skip("reports/ has uncommitted changes")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    tables = importlib.import_module("tables")
    text = (ROOT / page).read_text()
    assert tables.updated(page) == text, "run `python benchmarks/tables.py`"
