"""A small DVC project of shell commands, whose stages a test can hold or fail."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
    # Else the hash of the folder would depend on which of the two DVC heard of first.
    ".dvcignore": ".gitignore\n",
}

# `begin NAME` notes that a command runs, as which process, and then waits or fails if a
# test says so; `end NAME` notes that it came to its end.
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
    """A small checkout at `root`; its commands leave notes outside of it."""

    def __init__(self, root: Path, notes: Path) -> None:
        self.root = root
        self.notes = notes
        self._told = 0

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        assert self.read(name).count(old) == 1
        self.write(name, self.read(name).replace(old, new))

    def hold(self, stage: str) -> None:
        """Let the command of `stage` wait, once it began, until it is released."""
        (self.notes / f"hold-{stage}").touch()

    def release(self, stage: str = "*") -> None:
        for hold in self.notes.glob(f"hold-{stage}"):
            hold.unlink()

    def fail(self, stage: str, status: int, reason: str) -> None:
        """Let the command of `stage` end so, until it is mended."""
        (self.notes / f"fail-{stage}").write_text(f"{status} {reason}\n")

    def mend(self, stage: str) -> None:
        (self.notes / f"fail-{stage}").unlink()

    def noted(self, what: str, stage: str | None = None) -> list[list[str]]:
        """The stage and process of all who noted `what`: `began` or `ended`."""
        log = self.notes / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        notes = [line.split() for line in lines]
        return [
            rest for kind, *rest in notes if kind == what and stage in (None, rest[0])
        ]

    def wait_for(self, stage: str, times: int = 1) -> int:
        """Wait until the command of `stage` began so many times; return its process."""
        wait_until(lambda: len(self.noted("began", stage)) >= times)
        return int(self.noted("began", stage)[-1][1])

    def ran(self) -> list[str]:
        """The stages whose commands began since this was asked last."""
        names = [name for name, _ in self.noted("began")]
        news, self._told = names[self._told :], len(names)
        return sorted(news)

    def lock(self) -> dict[str, Any]:
        """What dvc.lock says, stage by stage."""
        path = self.root / "dvc.lock"
        return yaml.safe_load(path.read_text())["stages"] if path.exists() else {}

    def status(self) -> dict[str, Any]:
        """What `dvc status` finds changed."""
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

    def afresh(self) -> dict[str, Any]:
        """What `dvc repro` would write into dvc.lock if nothing had ever been run."""
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Iterator[Project]:
    """The small checkout, committed, nothing of it run; no process may outlive it."""
    # Neither the user's git and DVC nor their shell have a say in it.
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
    (project.root / ".dvc").mkdir(parents=True)
    project.write(".dvc/config", "[core]\n    analytics = false\n")
    project.write(".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
    for name, text in SMALL.items():
        project.write(name, text)
    project.git("init", "--quiet")
    project.git("config", "user.name", "A Tester")
    project.git("config", "user.email", "tester@example.com")
    project.commit()
    # DVC names stages as seen from here.
    monkeypatch.chdir(project.root)
    yield project
    project.release()
    try:
        wait_until(lambda: not processes(project))
    finally:
        for process in processes(project):
            process.kill()


def processes(project: Project) -> list[psutil.Process]:
    """Those that were started with the notes of this project, other than this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("NOTES") == str(project.notes):
                found.append(process)
    return found


@pytest.fixture
def built(project: Project) -> Project:
    """The small checkout after `dvc repro`, committed."""
    project.repro()
    project.commit()
    project.ran()
    return project
