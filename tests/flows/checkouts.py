"""Checkouts of the project itself, its data made small and taken from a folder."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from samples import RANGES, ROOT, VALID, idx_bytes
from small import VARIANTS

SOURCES = [
    ".dvc/config",
    ".dvcignore",
    ".gitignore",
    "datasets",
    "dvc.yaml",
    "experiments",
    "flows",
    "pyproject.toml",
    "tasks",
]
SMALL_TRAIN = {"variants": VARIANTS, "device": "cpu"}


def make(root: Path, digits: dict) -> Path:
    """Make a checkout, committed and not run, and its data, under `root`."""
    mirror = root / "mirror"
    mirror.mkdir()
    for name, values in digits.items():
        (mirror / name).write_bytes(idx_bytes(values))
    digests = subprocess.run(
        ["sha256sum", *sorted(digits)],
        cwd=mirror,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    card = yaml.safe_load((ROOT / "datasets" / "mnist.yaml").read_text())
    card["download"]["sources"] = [str(mirror)]
    card["download"]["sha256"] = dict(zip(digests[1::2], digests[::2], strict=True))
    card["validate"].update(RANGES)
    card["normalize"]["validation"] = VALID
    params["promote"].update(min_accuracy=0.5, max_log_loss=2, max_class_drop=0.2)
    project = root / "project"
    for name in SOURCES:
        source, target = ROOT / name, project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=made_by_runs)
        else:
            shutil.copy(source, target)
    for name, content in (("params", params), ("datasets/mnist", card)):
        text = yaml.safe_dump(content, sort_keys=False)
        (project / f"{name}.yaml").write_text(text)
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "small")
    return project


def made_by_runs(folder: str, names: list[str]) -> set[str]:
    """Return which files of `folder` a copy of the project should not have."""
    made = {"__pycache__"}
    if "experiments" in Path(folder).parts:
        made |= {"cache", "dvc.lock", "points.yaml", "tmp", "trials"}
    return made.intersection(names)


def make_pipeline_run(small: Path, root: Path, env: dict[str, str]) -> Path:
    """Make a checkout of `small` under `root` with two variants and run its pipeline.

    Its experiments have two seeds, and no limit on the accuracy.
    """
    project = clone(small, str(root / "project"))
    edit(project / "params.yaml", lambda params: params["train"].update(SMALL_TRAIN))
    edit(
        project / "datasets" / "mnist.yaml",
        lambda card: card["report"].update(suspicious=None),
    )
    (project / "experiments" / "seeds" / "seeds.yaml").write_text("seeds: [0, 1]\n")
    run(project, env, "dvc", "repro")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "pipeline run")
    return project


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change the YAML file at `path`."""
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    return subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def clone(project: Path, name: str) -> Path:
    target = project.parent / name
    git(project.parent, "clone", "-q", str(project), str(target))
    return target


def end(
    project: Path, env: dict[str, str], *command: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment's in `project` to its end, good or bad."""
    return subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=project,
        env=env,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(project: Path, env: dict[str, str], *command: str) -> str:
    """Run a command of the environment's in `project`; return all it says."""
    ended = end(project, env, *command)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def flow(project: Path, env: dict[str, str], *arguments: str) -> str:
    return run(project, env, "python", "-m", "flows.pipeline", *arguments)


def locked(project: Path) -> dict:
    return yaml.safe_load((project / "dvc.lock").read_text())
