"""What tests run on: a small data set, a small checkout, one Prefect server.

The data set is scikit-learn's digits, made 28x28, which stand in for MNIST. The
checkout holds shell commands: the engines are to agree on graphs, not on digits.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from dvc.repo import Repo
from prefect.logging.handlers import APILogHandler
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    temporary_settings,
)
from sklearn.datasets import load_digits

from tasks.champions import Comparison, Images, Record
from tasks.forms import Form, Kind
from tasks.normalize import Normalize, normalize
from tasks.scores import Scores
from tasks.splits import Facts, Scale, Split

ROOT = Path(__file__).parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background is deaf to Ctrl-C, and all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
TRAIN, VALID, TEST = 1100, 300, 300
# What MNIST's images are, and the small data set's.
KIND = Kind(
    title="small digits",
    form=Form(shape=(28, 28), brightest=255, box=20),
    classes=tuple("0123456789"),
)
# What the small data set's values are; the rest is as in MNIST's data sheet.
RANGES = {
    "counts": {"train": TRAIN + VALID, "test": TEST},
    "class_share": [0.09, 0.11],
    "mean_ink": [30, 80],
    "lit_share": [0.18, 0.5],
    "brightest": 220,
}


def facts(shape: tuple[int, int], classes: int, **scale: float) -> Facts:
    """What there is to know of made-up images, whose classes are called 0, 1 ..."""
    return Facts(
        title="made up",
        form=Form(shape=shape, brightest=255, box=None),
        classes=tuple(map(str, range(classes))),
        scale=Scale(**{"divisor": 256, "mean": 0.5, "std": 0.25, **scale}),
    )


def idx_bytes(values: np.ndarray) -> bytes:
    """An unsigned-byte array as an IDX file, written from the format's description."""
    header = bytes([0, 0, 0x08, values.ndim])
    sizes = np.array(values.shape, dtype=">u4").tobytes()
    return header + sizes + np.ascontiguousarray(values, dtype=np.uint8).tobytes()


@pytest.fixture(scope="session")
def digits() -> dict[str, np.ndarray]:
    """The four arrays of the raw data, by file name: 1,400 train, 300 test images."""
    bunch = load_digits()
    small = np.clip(bunch.images * 16, 0, 255).astype(np.uint8)
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    labels = bunch.target.astype(np.uint8)
    split, end = TRAIN + VALID, TRAIN + VALID + TEST
    return {
        "train-images-idx3-ubyte": images[:split],
        "train-labels-idx1-ubyte": labels[:split],
        "t10k-images-idx3-ubyte": images[split:end],
        "t10k-labels-idx1-ubyte": labels[split:end],
    }


@pytest.fixture
def raw(tmp_path: Path, digits: dict[str, np.ndarray]) -> Path:
    """A folder with the four raw files of the small data set."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, values in digits.items():
        (folder / name).write_bytes(idx_bytes(values))
    return folder


@pytest.fixture
def params() -> dict:
    """The real params.yaml, to be made small by a test."""
    return yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture
def sheet() -> dict:
    """The real data sheet of MNIST, to be made small by a test."""
    return yaml.safe_load((ROOT / "datasets" / "mnist.yaml").read_text())


@pytest.fixture(scope="session")
def parts(digits: dict[str, np.ndarray]) -> tuple[dict, Facts]:
    """The three splits of the small data set, and what is known of it."""
    training, test = (
        Split(digits[f"{part}-images-idx3-ubyte"], digits[f"{part}-labels-idx1-ubyte"])
        for part in ("train", "t10k")
    )
    return normalize(training, test, KIND, Normalize(validation=VALID))


@pytest.fixture
def record() -> Record:
    """What is known of a champion."""
    return Record(
        model="scratch_adam",
        md5="9" * 32,
        promoted="2026-11-23T02:00:00+00:00",
        replaces="8" * 32,
        compared=Comparison(
            accuracy=0.917,
            gained=40,
            lost=20,
            p_value=0.0067,
            class_drop=0.01,
            dropped="5",
        ),
        revision="0123456789ab",
        data={"data/raw": "d0193be1.dir"},
        parameters={"update": "adam", "learning_rate": 0.001},
        images=Images(train=50_000, valid=10_000, test=10_000),
        valid=Scores(
            accuracy=0.919,
            accuracy_low=0.91349,
            accuracy_high=0.924188,
            rmse=1.19,
            mae=0.29,
            log_loss=0.28534,
            ece=0.031,
        ),
        test=Scores(
            accuracy=0.916,
            accuracy_low=0.91039,
            accuracy_high=0.92129,
            rmse=1.21,
            mae=0.3,
            log_loss=0.29,
            ece=0.03,
        ),
        recall={"0": 0.97, "5": 0.85, "9": 0.9},
    )


@pytest.fixture(scope="session")
def small(tmp_path_factory, digits) -> Path:
    """The project itself, its data made small; nothing of it was run."""
    # It copies the project as it stands, with what this file knows of the data.
    from checkouts import make  # noqa: PLC0415

    return make(tmp_path_factory.mktemp("small"), digits)


@contextmanager
def serving_prefect(home: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Run a Prefect server; give programs the environment to use it."""
    environment = server_environment(home)
    server = start_server(environment | settings)
    try:
        yield environment
    finally:
        stop_server(server)


def server_environment(home: Path) -> dict[str, str]:
    """What programs need to know to be, or to use, a server with this home."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }


def start_server(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a Prefect server and wait until it answers."""
    own = {k: v for k, v in environment.items() if k != "PREFECT_API_URL"}
    with (Path(environment["PREFECT_HOME"]) / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start"],
            env=own,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"{environment['PREFECT_API_URL']}/health"
        wait_until(lambda: answers(url), seconds=60)
    except BaseException:
        stop_server(server)
        raise
    return server


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """End a server, by force if it must be."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(timeout=10)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The session's one Prefect server; gives programs the environment to use it."""
    home = tmp_path_factory.mktemp("prefect")
    with (
        serving_prefect(home) as environment,
        temporary_settings(
            {
                PREFECT_API_URL: environment["PREFECT_API_URL"],
                PREFECT_HOME: home,
                # A flow waits for this thread at its end, up to a second.
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            }
        ),
    ):
        yield environment
        # What was logged is sent from a thread, which needs the server.
        APILogHandler().flush()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def wait_until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for what must come soon."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"this did not come within {seconds} s"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; if it ended and nobody has asked why, it does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
    shutil.copy(ROOT / ".dvc" / "config", project.root / ".dvc" / "config")
    shutil.copy(ROOT / ".dvc" / ".gitignore", project.root / ".dvc" / ".gitignore")
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
