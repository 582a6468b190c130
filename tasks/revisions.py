"""Which revision of the code this is, as git names it."""

import subprocess

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
