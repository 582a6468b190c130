"""The revision of the code and the MD5 of the data, from git and dvc.lock."""

import subprocess
from pathlib import Path

from ruamel.yaml import YAML

# A model depends on these; it does not depend on dvc.lock, which its run writes.
CODE = ("dvc.yaml", "params.yaml", "flows", "tasks")


def revision() -> str | None:
    """Return the short hash of the commit, with `-dirty` if the code has changes.

    None without git or before the first commit.
    """
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if _git("status", "--porcelain", "--", *CODE) else commit


def data() -> dict[str, str]:
    """Return the MD5 of each folder of data in dvc.lock, by path."""
    lock = YAML(typ="safe").load(Path("dvc.lock"))
    outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
    md5s = {out["path"]: out["md5"] for out in outs if out["path"].startswith("data/")}
    return dict(sorted(md5s.items()))


def _git(*arguments: str) -> str | None:
    try:
        ended = subprocess.run(  # noqa: S603  # fixed arguments
            ["git", *arguments],  # noqa: S607  # the git on the user's PATH
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return ended.stdout.strip()
