"""A small DVC project of shell commands; a test can make its stages wait or fail."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from dvc.repo import Repo
from servers import wait_until

# first -> each@a, each@b -> last, which reads the folder that those two wrote into.
SMALL = {
    "dvc.yaml": """\
stages:
  first:
    desc: Write the text down.
    cmd: sh first.sh
    deps: [first.sh, source.txt]
    params: [text]
    outs: [data/first.txt]
  each:
    foreach: ${signs}
    do:
      cmd: sh each.sh ${key} ${item}
      deps: [each.sh, data/first.txt]
      params: ["signs.${key}"]
      outs: ["parts/${key}.txt"]
  last:
    cmd: sh last.sh
    deps: [last.sh, parts]
    outs: [all.txt]
    metrics: [{metrics.json: {cache: false}}]
    plots: [{sizes.csv: {cache: false}}]
""",
    "params.yaml": "text: hello\nsigns: {a: plus, b: minus}\n",
    "source.txt": "world\n",
    "first.sh": """\
# The text and the source.
. "$NOTES/body.sh"
mkdir -p data
echo half > data/first.txt
begin first
sed -n 's/^text: //p' params.yaml | cat - source.txt > data/first.txt
end first
""",
    "each.sh": """\
. "$NOTES/body.sh"
mkdir -p parts
begin each@$1
sed "s/^/$2 /" data/first.txt > parts/$1.txt
end each@$1
""",
    "last.sh": """\
. "$NOTES/body.sh"
begin last
cat parts/*.txt > all.txt
echo "{\\"bytes\\": $(cat all.txt | wc -c)}" > metrics.json
echo name,bytes > sizes.csv
for part in parts/*.txt; do echo "$part,$(wc -c < $part)" >> sizes.csv; done
end last
""",
    # Otherwise the hash of the folder would depend on which stage was recorded first.
    ".dvcignore": ".gitignore\n",
}

# `begin NAME` logs that a command runs, with its process id, and then waits or fails if
# a test has asked for it; `end NAME` logs that the command is at its end.
BODY = """\
begin() {
  echo "began $1 $$" >> "$NOTES/log"
  while [ -e "$NOTES/hold-$1" ]; do sleep 0.01; done
  if [ -e "$NOTES/fail-$1" ]; then
    read -r status reason < "$NOTES/fail-$1"
    echo "It was tried."
    echo "$reason"
    exit "$status"
  fi
}
end() {
  echo "ended $1 $$" >> "$NOTES/log"
}
"""


class Project:
    """A small checkout at `root`; its commands write their log to `notes`, outside."""

    def __init__(self, root: Path, notes: Path) -> None:
        self.root = root
        self.notes = notes
        self.seen = 0

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        assert self.read(name).count(old) == 1
        self.write(name, self.read(name).replace(old, new))

    def hold(self, stage: str) -> None:
        """Make the command of `stage` wait, once it began, until it is released."""
        (self.notes / f"hold-{stage}").touch()

    def release(self, stage: str = "*") -> None:
        for hold in self.notes.glob(f"hold-{stage}"):
            hold.unlink()

    def fail(self, stage: str, status: int, reason: str) -> None:
        """Make the command of `stage` fail, until `repair`."""
        (self.notes / f"fail-{stage}").write_text(f"{status} {reason}\n")

    def repair(self, stage: str) -> None:
        (self.notes / f"fail-{stage}").unlink()

    def logged(self, event: str, stage: str | None = None) -> list[list[str]]:
        """Return the stage and process of each logged event: `began` or `ended`."""
        log = self.notes / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        events = [line.split() for line in lines]
        return [
            rest for name, *rest in events if name == event and stage in (None, rest[0])
        ]

    def wait_for(self, stage: str, times: int = 1) -> int:
        """Wait until the command of `stage` began `times` times; return its process."""
        wait_until(lambda: len(self.logged("began", stage)) >= times)
        return int(self.logged("began", stage)[-1][1])

    def ran(self) -> list[str]:
        """Return the stages whose commands began since the last call."""
        names = [name for name, _ in self.logged("began")]
        new, self.seen = names[self.seen :], len(names)
        return sorted(new)

    def lock(self) -> dict[str, Any]:
        """Return the entries of dvc.lock by stage."""
        path = self.root / "dvc.lock"
        return yaml.safe_load(path.read_text())["stages"] if path.exists() else {}

    def status(self) -> dict[str, Any]:
        """Return the changes that `dvc status` finds."""
        with chdir(self.root), Repo() as repo:
            return repo.status()

    def repro(self, *targets: str, **options: Any) -> list[str]:
        """Run `dvc repro`; return the stages that it did not skip."""
        with chdir(self.root), Repo() as repo:
            return [done.addressing for done in repo.reproduce(targets, **options)]

    def git(self, *arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.check_output(command, cwd=self.root, text=True)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "as it is")

    def fresh_lock(self) -> dict[str, Any]:
        """Return the dvc.lock that `dvc repro` writes in a copy that has never run."""
        twin = Project(self.root.with_name("twin"), self.notes.with_name("twin-notes"))
        shutil.rmtree(twin.root, ignore_errors=True)
        skip = shutil.ignore_patterns(".git", "cache", "tmp", "dvc.lock")
        shutil.copytree(self.root, twin.root, ignore=skip)
        for stage in self.lock().values():
            for out in stage.get("outs", []):
                (twin.root / out["path"]).unlink(missing_ok=True)
        twin.notes.mkdir(exist_ok=True)
        (twin.notes / "body.sh").write_text(BODY)
        twin.git("init", "--quiet")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NOTES", str(twin.notes))
            twin.repro()
        return twin.lock()

    def copy_from(self, template: Path) -> None:
        """Replace the checkout and the log by those in a folder."""
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(template / "project", self.root, dirs_exist_ok=True)
        if (template / "log").exists():
            shutil.copy(template / "log", self.notes / "log")


# The checkout as each fixture makes it, so that the next test gets a copy.
TEMPLATES: dict[str, Path] = {}


def made_once(name: str, project: Project, factory, make: Callable[[], object]) -> None:
    """Make the checkout for the first test that needs it; copy it for the others."""
    if name in TEMPLATES:
        project.copy_from(TEMPLATES[name])
        return
    make()
    folder = factory.mktemp(name)
    shutil.copytree(project.root, folder / "project")
    if (project.notes / "log").exists():
        shutil.copy(project.notes / "log", folder / "log")
    TEMPLATES[name] = folder


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory, monkeypatch) -> Iterator[Project]:
    """The small checkout, committed, with nothing run; no process may outlive it."""
    # The user's settings of git, DVC and the shell must not matter.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("SHELL", "/bin/sh")
    # `dvc queue start` asks for `dvc` by name.
    here = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join([here, os.environ["PATH"]]))
    project = Project(tmp_path / "project", tmp_path / "notes")
    monkeypatch.setenv("NOTES", str(project.notes))
    project.notes.mkdir()
    (project.notes / "body.sh").write_text(BODY)
    project.root.mkdir()
    made_once("cold", project, tmp_path_factory, lambda: write_small(project))
    # DVC names stages as seen from here.
    monkeypatch.chdir(project.root)
    yield project
    project.release()
    try:
        wait_until(lambda: not processes(project))
    finally:
        for process in processes(project):
            process.kill()


def write_small(project: Project) -> None:
    """Write the files of the small project and commit them."""
    (project.root / ".dvc").mkdir()
    project.write(".dvc/config", "[core]\n    analytics = false\n")
    project.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
    for name, text in SMALL.items():
        project.write(name, text)
    project.git("init", "--quiet")
    project.git("config", "user.name", "A Tester")
    project.git("config", "user.email", "tester@example.com")
    project.commit()


def processes(project: Project) -> list[psutil.Process]:
    """Return the processes of this project's commands."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("NOTES") == str(project.notes):
                found.append(process)
    return found


@pytest.fixture
def built(project: Project, tmp_path_factory) -> Project:
    """The small checkout after `dvc repro`, committed."""

    def build() -> None:
        project.repro()
        project.commit()

    made_once("built", project, tmp_path_factory, build)
    project.ran()
    return project
