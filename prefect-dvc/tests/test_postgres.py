"""The Prefect server can keep its records in PostgreSQL, with one setting."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import serving_prefect, wait_until

ANYFLOW = Path(__file__).with_name("anyflow.py")

# Debian does not put the programs that start a server into the path.
DEBIAN = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
PATH = os.pathsep.join([*DEBIAN, os.environ["PATH"]])
INITDB = shutil.which("initdb", path=PATH)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(INITDB is None, reason="PostgreSQL's initdb is not installed"),
]


@pytest.fixture
def postgres():
    """A new cluster without a network; yields the folder of its socket."""
    # Not in pytest's folder: the path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        # PostgreSQL refuses to run as root.
        user = {"user": "nobody"} if os.geteuid() == 0 else {}  # prose: ok
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
            wait_until(lambda: query(folder, "select 1") == "1\n")
            query(folder, "create database records")
            yield folder
        finally:
            server.terminate()
            server.wait()


def query(folder, sql, database="postgres"):
    """Return the database's answer, or nothing if it is down."""
    options = ["--no-psqlrc", "--tuples-only", "--no-align", "--username=prefect"]
    ended = subprocess.run(
        ["psql", *options, "--host", folder, "--command", sql, database],
        check=False,
        capture_output=True,
        text=True,
    )
    return ended.stdout


def test_a_run_is_recorded_in_postgresql_with_one_setting(project, postgres, tmp_path):
    url = f"postgresql+asyncpg://prefect@/records?host={postgres}"
    home = tmp_path / "home"
    home.mkdir()
    with serving_prefect(
        home, PREFECT_SERVER_DATABASE_CONNECTION_URL=url
    ) as environment:
        ended = subprocess.run(
            [sys.executable, ANYFLOW, project.root], env=environment, check=False
        )
        assert ended.returncode == 0
        states = "select state_name from flow_run"
        assert query(postgres, states, "records") == "Completed\n"
        tasks = "select name from task_run order by name"
        wait_until(
            lambda: (
                query(postgres, tasks, "records").split()
                == ["each@a", "each@b", "first", "last"]
            )
        )
    assert not (home / "prefect.db").exists()
