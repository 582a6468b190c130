"""Each step as a command: what it says and how it ends when something is wrong."""

import errno
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, alive, wait_until
from disturbed import INJECTED
from threadpoolctl import threadpool_info

import tasks
from tasks.runtime import cli
from tasks.runtime.params import BadInput

STEPS = {
    "download": [],
    "validate": [],
    "normalize": [],
    "baseline": [],
    "train": ["scratch_sgd"],
    "evaluate": [],
    "report": [],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty project: the real params.yaml and dataset cards, and nothing else."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of(step: str) -> Path:
    """The file that a step's section stands in."""
    of_the_data = ("download", "validate", "normalize")
    return Path("datasets/mnist.yaml" if step in of_the_data else "params.yaml")


def run(step: str, monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Run a step in this process; return its exit status and its last word."""
    module = importlib.import_module(f"tasks.{step}")
    monkeypatch.setattr(sys, "argv", [step, *(arguments or STEPS[step])])
    with pytest.raises(SystemExit) as caught:
        cli.run(module.main)
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize("step", [step for step in STEPS if step != "download"])
def test_a_missing_input_is_named(folder, step, monkeypatch, capsys):
    status, said = run(step, monkeypatch, capsys)
    assert status == 1
    assert said.startswith(f"tasks.{step}: ")
    assert " is missing; run " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("step", STEPS)
def test_help_says_what_the_step_reads_and_writes(step, monkeypatch, capsys):
    module = importlib.import_module(f"tasks.{step}")
    monkeypatch.setattr(sys, "argv", [step, "--help"])
    with pytest.raises(SystemExit) as caught:
        cli.run(module.main)
    assert caught.value.code == 0
    assert module.__doc__.strip() in capsys.readouterr().out


@pytest.mark.parametrize(
    "step", ["download", "validate", "normalize", "baseline", "train"]
)
def test_a_key_that_nobody_knows_is_refused(folder, step, monkeypatch, capsys):
    path = settings_of(step)
    params = yaml.safe_load(path.read_text())
    params[step]["learning_rtae"] = 1
    path.write_text(yaml.safe_dump(params))
    assert run(step, monkeypatch, capsys) == (
        1,
        f"tasks.{step}: {path}: `{step}.learning_rtae` is not a known key.\n",
    )


@pytest.mark.parametrize("step", ["download", "validate", "normalize", "baseline"])
def test_a_key_that_is_missing_is_named(folder, step, monkeypatch, capsys):
    path = settings_of(step)
    params = yaml.safe_load(path.read_text())
    key = next(iter(params[step]))
    del params[step][key]
    path.write_text(yaml.safe_dump(params))
    assert run(step, monkeypatch, capsys) == (
        1,
        f"tasks.{step}: {path}: `{step}.{key}` is missing.\n",
    )


def test_a_network_that_is_not_in_params_is_refused(folder, monkeypatch, capsys):
    status, said = run("train", monkeypatch, capsys, "scratch")
    assert status == 1
    assert said == (
        "tasks.train: `train.variants` in params.yaml has no 'scratch'; it has "
        "sequential_adam, scratch_adam, scratch_sgd, scratch_manual, analytic.\n"
    )


def test_a_corrupted_file_is_named_and_the_last_output_stays(
    folder, raw, monkeypatch, capsys
):
    shutil.copytree(raw, folder / "data" / "raw")
    labels = folder / "data" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    report = folder / "reports" / "validation.json"
    report.parent.mkdir()
    report.write_text("the last one")
    status, said = run("validate", monkeypatch, capsys)
    assert status == 1
    assert "data/raw/train-labels-idx1-ubyte" in said
    assert said.count("\n") == 1
    assert report.read_text() == "the last one"


def test_the_command_line_ends_with_the_status(folder):
    ended = subprocess.run(
        [sys.executable, "-m", "tasks.normalize"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("tasks.normalize: data/raw/train-images-idx3-ubyte")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (BadInput("Use another."), 1, "Use another."),
        (OSError(28, "No space left on device", "a/b"), 1, "left on device; make room"),
        (OSError(30, "Read-only file system", "/a/b"), 1, ": /a/b: Read-only"),
        (OSError(5, "Input/output error"), 1, ": input/output: Input/output error.\n"),
        (KeyboardInterrupt(), 130, "interrupted; run it again"),
        (FileNotFoundError(2, "none", "a/b"), 1, "a/b is missing; run `dvc repro`"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(error, status, sentence, capsys):
    def step() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run(step)
    said = capsys.readouterr().err
    assert caught.value.code == status
    assert sentence in said
    assert said.count("\n") == 1


def test_a_path_is_told_as_seen_from_the_project(folder, capsys):
    def step() -> None:
        raise OSError(28, "No space left on device", str(folder / "data" / "raw"))

    with pytest.raises(SystemExit):
        cli.run(step)
    assert ": data/raw: No space left on device; make room" in capsys.readouterr().err


# A step that writes a file for ever, and takes its time to remove it; it says when it
# has begun with either.
WRITES = """\
import sys, time
from pathlib import Path
from tasks.runtime import cli, files

def main():
    with files.replacing(Path("out")) as temporary:
        temporary.write_text("half")
        print("begun", flush=True)
        time.sleep(60)

unlink = Path.unlink

def slowly(path, **options):
    print("tidying up", flush=True)
    time.sleep(0.3)
    unlink(path, **options)

Path.unlink = slowly
cli.run(main)
"""


@pytest.fixture
def writes(tmp_path) -> list[str]:
    """The command of a step that writes `out` under a temporary name for ever."""
    (tmp_path / "writes.py").write_text(WRITES)
    return [sys.executable, "writes.py"]


def begun(arguments: list[str], folder: Path, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    process = subprocess.Popen(
        arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    assert len(list(folder.glob(".out.*.tmp"))) == 1
    return process


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_step_that_is_told_to_end_removes_what_it_was_writing(
    writes, tmp_path, first, again
):
    with begun(writes, tmp_path) as process:
        process.send_signal(first)
        assert process.stdout.readline() == "tidying up\n"
        process.send_signal(again)
        assert process.wait(30) == 128 + first
    assert [path.name for path in tmp_path.iterdir()] == ["writes.py"]


def begins(
    folder: Path, fault: str, *before: str, **more: str
) -> subprocess.Popen[str]:
    """A step that meets a fault before it has imported its libraries."""
    asked = {"program": "train.py", "moment": "start", "fault": fault}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(INJECTED), str(ROOT)]),
        "FAULT": json.dumps({**asked, "notes": str(folder)}),
        **more,
    }
    line = [*before, sys.executable, "-m", "tasks.train", "scratch_sgd"]
    return subprocess.Popen(
        line,
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


# A program that runs another and waits for its end.
ENGINE = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]


def of_the_step(folder: Path) -> int:
    """The process of the step, once it stands still."""
    wait_until(lambda: (folder / "reached").exists() and read(folder))
    return read(folder)


def read(folder: Path) -> int:
    return int((folder / "reached").read_text() or 0)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux alone can tell")
@pytest.mark.parametrize("shell", ['exec "$0" "$@"', '"$0" "$@"; :'])
def test_a_stage_ends_with_the_engine_that_was_killed(folder, shell):
    before = [*ENGINE, "/bin/sh", "-c", shell]
    with begins(folder, "wait", *before, DVC_STAGE="train") as engine:
        step = of_the_step(folder)
        engine.kill()
        wait_until(lambda: not alive(step))


def test_a_step_that_is_no_stage_outlives_who_started_it(folder, monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with begins(folder, "wait", *ENGINE) as starter:
        step = of_the_step(folder)
        starter.kill()
        starter.wait()
        time.sleep(0.5)
        assert alive(step)
        os.kill(step, signal.SIGTERM)


def test_ctrl_c_while_a_step_imports_its_libraries_is_no_traceback(folder):
    with begins(folder, "wait") as process:
        wait_until((folder / "reached").exists)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == ""
        assert process.returncode == -signal.SIGINT


def test_no_memory_for_the_libraries_is_one_sentence(folder):
    with begins(folder, "memory") as process:
        said = process.communicate(timeout=30)[1]
    assert said == "tasks.train: out of memory; close other programs.\n"
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "/usr/lib"), True),
        (SystemError("error return without exception set"), True),
        (ImportError("no such library"), False),
    ],
)
def test_libraries_tell_in_many_words_that_there_is_no_memory(error, is_it, capsys):
    tasks._out_of_memory(type(error), error, None)
    said = capsys.readouterr().err
    assert said.endswith(": out of memory; close other programs.\n") == is_it
    assert (type(error).__name__ in said) != is_it


def test_a_bug_is_not_hidden():
    def step() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(step)


def test_a_step_has_one_thread():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        cli.limit_threads()
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    finally:
        torch.set_num_threads(threads)
