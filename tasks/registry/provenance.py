"""Which revision of the code and of the data this is, as git and DVC name them."""

import subprocess
from pathlib import Path

from ruamel.yaml import YAML

# What decides how a model comes out; that dvc.lock was written since does not.
CODE = ("dvc.yaml", "params.yaml", "flows", "tasks")


def revision() -> str | None:
    """Return the short name of the commit, with `-dirty` if the code differs from it.

    None where there is no git, or no commit yet.
    """
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    return f"{commit}-dirty" if _git("status", "--porcelain", "--", *CODE) else commit


def data() -> dict[str, str]:
    """Return what dvc.lock says of the folders of data: their MD5 by their paths."""
    lock = YAML(typ="safe").load(Path("dvc.lock"))
    stages = lock["stages"].values()
    md5s = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    return {path: md5s[path] for path in sorted(md5s) if path.startswith("data/")}


def _git(*arguments: str) -> str | None:
    try:
        ended = subprocess.run(  # noqa: S603  # words of ours
            ["git", *arguments],  # noqa: S607  # whichever git the user has
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return ended.stdout.strip()
