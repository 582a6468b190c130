"""The Prefect server keeps its records in PostgreSQL as well, by one setting."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import serving_prefect, wait_until

ANYFLOW = Path(__file__).with_name("anyflow.py")

# Debian keeps the programs that start a server out of the path.
DEBIAN = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
PATH = os.pathsep.join([*DEBIAN, os.environ["PATH"]])
INITDB = shutil.which("initdb", path=PATH)

pytestmark = pytest.mark.skipif(
    INITDB is None, reason="PostgreSQL's initdb is not installed"
)


@pytest.fixture
def postgres():
    """A cluster of this test's own, without a network; gives the folder to ask in."""
    # Not in pytest's folder: a socket's path may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        # PostgreSQL refuses to run as root.
        user = {"user": "nobody"} if os.geteuid() == 0 else {}
        if user:
            shutil.chown(folder, **user)
        data, programs = folder / "data", Path(INITDB).resolve().parent
        subprocess.run(
            [INITDB, "--no-sync", "--username=prefect", "--auth=trust", data],
            **user,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-h", "", "-F"],
            **user,
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: ask(folder, "select 1") == "1\n")
            ask(folder, "create database records")
            yield folder
        finally:
            server.terminate()
            server.wait()


def ask(folder, sql, database="postgres"):
    """What the database answers, or nothing if it does not."""
    options = ["--no-psqlrc", "--tuples-only", "--no-align", "--username=prefect"]
    ended = subprocess.run(
        ["psql", *options, "--host", folder, "--command", sql, database],
        check=False,
        capture_output=True,
        text=True,
    )
    return ended.stdout


def test_a_run_stands_in_postgresql_by_one_setting(project, postgres, tmp_path):
    url = f"postgresql+asyncpg://prefect@/records?host={postgres}"
    home = tmp_path / "home"
    home.mkdir()
    with serving_prefect(home, PREFECT_SERVER_DATABASE_CONNECTION_URL=url) as to_it:
        ended = subprocess.run(
            [sys.executable, ANYFLOW, project.root], env=to_it, check=False
        )
        assert ended.returncode == 0
        stands = "select state_name from flow_run"
        assert ask(postgres, stands, "records") == "Completed\n"
        tasks = "select name from task_run order by name"
        wait_until(
            lambda: (
                ask(postgres, tasks, "records").split()
                == ["each@a", "each@b", "first", "last"]
            )
        )
    assert not (home / "prefect.db").exists()
