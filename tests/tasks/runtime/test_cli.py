"""Each step as a command: its messages and exit status when something is wrong."""

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
from samples import ROOT
from servers import alive, wait_until
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
    """A project with only the real params.yaml and dataset cards."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of(step: str) -> Path:
    """Return the file with a step's section."""
    data_steps = ("download", "validate", "normalize")
    return Path("datasets/mnist.yaml" if step in data_steps else "params.yaml")


def run(step: str, monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Run a step in this process; return its exit status and its messages."""
    module = importlib.import_module(f"tasks.{step}")
    monkeypatch.setattr(sys, "argv", [step, *(arguments or STEPS[step])])
    with pytest.raises(SystemExit) as caught:
        cli.run(module.main)
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize("step", [step for step in STEPS if step != "download"])
def test_a_missing_input_is_one_sentence(folder, step, monkeypatch, capsys):
    status, stderr = run(step, monkeypatch, capsys)
    assert status == 1
    assert stderr.startswith(f"tasks.{step}: ")
    assert " is missing; run " in stderr
    assert stderr.count("\n") == 1


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
def test_an_unknown_key_is_refused(folder, step, monkeypatch, capsys):
    path = settings_of(step)
    params = yaml.safe_load(path.read_text())
    params[step]["learning_rtae"] = 1
    path.write_text(yaml.safe_dump(params))
    assert run(step, monkeypatch, capsys) == (
        1,
        f"tasks.{step}: {path}: `{step}.learning_rtae` is not a known key.\n",
    )


@pytest.mark.parametrize("step", ["download", "validate", "normalize", "baseline"])
def test_a_missing_key_is_refused(folder, step, monkeypatch, capsys):
    path = settings_of(step)
    params = yaml.safe_load(path.read_text())
    key = next(iter(params[step]))
    del params[step][key]
    path.write_text(yaml.safe_dump(params))
    assert run(step, monkeypatch, capsys) == (
        1,
        f"tasks.{step}: {path}: `{step}.{key}` is missing.\n",
    )


def test_an_unknown_network_is_refused(folder, monkeypatch, capsys):
    status, stderr = run("train", monkeypatch, capsys, "scratch")
    assert status == 1
    assert "'scratch'" in stderr
    assert "scratch_manual, analytic" in stderr


def test_a_corrupted_file_is_named_and_the_last_output_is_unchanged(
    folder, raw, monkeypatch, capsys
):
    shutil.copytree(raw, folder / "data" / "raw")
    labels = folder / "data" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1])
    report = folder / "reports" / "validation.json"
    report.parent.mkdir()
    report.write_text("the last one")
    status, stderr = run("validate", monkeypatch, capsys)
    assert status == 1
    assert "data/raw/train-labels-idx1-ubyte" in stderr
    assert stderr.count("\n") == 1
    assert report.read_text() == "the last one"


def test_a_command_exits_with_the_status_of_its_step(folder):
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
        (
            OSError(28, "No space left on device", "a/b"),
            1,
            "left on device; free some space",
        ),
        (OSError(30, "Read-only file system", "/a/b"), 1, ": /a/b: Read-only"),
        (OSError(5, "Input/output error"), 1, ": input/output: Input/output error.\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (FileNotFoundError(2, "none", "a/b"), 1, "a/b is missing; run `dvc repro`"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_errors_that_a_user_can_fix_are_one_sentence(error, status, sentence, capsys):
    def step() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        cli.run(step)
    stderr = capsys.readouterr().err
    assert caught.value.code == status
    assert sentence in stderr
    assert stderr.count("\n") == 1


def test_errors_have_paths_relative_to_the_project(folder, capsys):
    def step() -> None:
        raise OSError(28, "No space left on device", str(folder / "data" / "raw"))

    with pytest.raises(SystemExit):
        cli.run(step)
    assert ": data/raw: No space left on device; " in capsys.readouterr().err


# A step that takes long to write a file and to remove it, and reports both.
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
    print("removing", flush=True)
    time.sleep(0.3)
    unlink(path, **options)

Path.unlink = slowly
cli.run(main)
"""


@pytest.fixture
def writes(tmp_path) -> list[str]:
    """Return the command of a step that is writing `out` under a temporary name."""
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


@pytest.mark.parametrize(
    ("first", "again"),
    [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)],
)
def test_interrupted_steps_remove_their_temporary_files(writes, tmp_path, first, again):
    with begun(writes, tmp_path) as process:
        process.send_signal(first)
        assert process.stdout.readline() == "removing\n"
        process.send_signal(again)
        assert process.wait(30) == 128 + first
    assert [path.name for path in tmp_path.iterdir()] == ["writes.py"]


def begins(
    folder: Path, fault: str, *before: str, **more: str
) -> subprocess.Popen[str]:
    """Start a step that meets a fault before it has imported its libraries."""
    asked = {"program": "train.py", "moment": "start", "fault": fault}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(ROOT / "tests" / "flows" / "injected"), str(ROOT)]
        ),
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


# A program that runs another one and waits for it.
ENGINE = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]


def paused_step(folder: Path) -> int:
    """Return the process ID of the step when it has paused."""
    wait_until(lambda: (folder / "reached").exists() and read(folder))
    return read(folder)


def read(folder: Path) -> int:
    return int((folder / "reached").read_text() or 0)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
@pytest.mark.parametrize("shell", ['exec "$0" "$@"', '"$0" "$@"; :'])
def test_a_stage_ends_when_its_engine_is_killed(folder, shell):
    before = [*ENGINE, "/bin/sh", "-c", shell]
    with begins(folder, "wait", *before, DVC_STAGE="train") as engine:
        step = paused_step(folder)
        engine.kill()
        wait_until(lambda: not alive(step))


def test_a_step_outside_dvc_outlives_its_parent(folder, monkeypatch):
    monkeypatch.delenv("DVC_STAGE", raising=False)
    with begins(folder, "wait", *ENGINE) as starter:
        step = paused_step(folder)
        starter.kill()
        starter.wait()
        time.sleep(0.5)
        assert alive(step)
        os.kill(step, signal.SIGTERM)


def test_ctrl_c_during_imports_shows_no_traceback(folder):
    with begins(folder, "wait") as process:
        wait_until((folder / "reached").exists)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[1] == ""
        assert process.returncode == -signal.SIGINT


def test_lack_of_memory_during_imports_is_one_sentence(folder):
    with begins(folder, "memory") as process:
        stderr = process.communicate(timeout=30)[1]
    assert stderr == "tasks.train: out of memory; close other programs.\n"
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "/usr/lib"), True),
        (SystemError("error return without exception set"), True),
        (ImportError("no such library"), False),
    ],
)
def test_lack_of_memory_is_recognized_in_the_errors_of_libraries(
    error, expected, capsys
):
    tasks._report_error(type(error), error, None)
    stderr = capsys.readouterr().err
    assert stderr.endswith(": out of memory; close other programs.\n") == expected
    assert (type(error).__name__ in stderr) != expected


def test_unexpected_errors_keep_their_traceback():
    def step() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(step)


def test_steps_use_one_thread():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        cli.limit_threads()
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    finally:
        torch.set_num_threads(threads)
