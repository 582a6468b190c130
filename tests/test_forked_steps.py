"""A forked step computes the same numbers as a new process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from prefect_dvc import forkserver

ROOT = Path(__file__).parent.parent
STEP = """
    import torch
    from tasks.runtime import cli
    cli.limit_threads()
    x = torch.randn(300, 784, generator=torch.Generator().manual_seed(0))
    print((x @ x.t()).sum().item().hex(), torch.get_num_threads())
"""


def test_a_forked_step_computes_the_same_as_a_new_process(tmp_path):
    (tmp_path / "step.py").write_text(textwrap.dedent(STEP))
    (tmp_path / "tasks").symlink_to(ROOT / "tasks")
    ordinary = subprocess.run(
        [sys.executable, "-m", "step"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    modules = forkserver.preloaded_modules(ROOT) or ("torch",)
    assert forkserver.start(modules).wait(60)
    child = forkserver.Forked("python -m step", str(tmp_path), os.environ)
    with child.stdout:
        output = b""
        while chunk := os.read(child.stdout.fileno(), 65536):
            output += chunk
    assert (child.wait(), output.decode()) == (0, ordinary)
