"""The modules that a project preloads: `[tool.prefect-dvc]` in pyproject.toml.

This module imports neither Prefect nor DVC, so a program can start the preloading first
and import Prefect while it runs.
"""

import re
import tomllib
from pathlib import Path

from prefect_dvc import forkserver
from prefect_dvc.errors import ProjectError


def preloaded_modules(folder: Path) -> tuple[str, ...]:
    """Return `preload` of the nearest pyproject.toml with a `[tool.prefect-dvc]`.

    Raises:
        ProjectError: the section is invalid.
    """
    for parent in (folder.resolve(), *folder.resolve().parents):
        path = parent / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            tools = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
        except ValueError as error:
            raise ProjectError(f"{path} is not valid TOML: {error}.") from None
        match tools.get("prefect-dvc"):
            case None:
                continue
            case {"preload": [*names], **rest} if not rest and all(
                isinstance(name, str) for name in names
            ):
                return tuple(names)
            case {**rest} if not rest:
                return ()
        raise ProjectError(
            f"[tool.prefect-dvc] in {path} is invalid; it takes one key, `preload`, a "
            "list of module names."
        )
    return ()


def start_preloading(folder: Path) -> None:
    """Start importing the project's preloaded modules, if a stage is likely to run.

    Only looks whether every output in dvc.lock exists. Without this call, preloading
    starts when the first command does.

    Raises:
        ProjectError: `[tool.prefect-dvc]` is invalid.
    """
    modules = preloaded_modules(folder)
    if modules and not _outputs_exist(folder):
        forkserver.start(modules)


def _outputs_exist(folder: Path) -> bool:
    try:
        text = (folder / "dvc.lock").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    # The indentation is DVC's own; a YAML parser takes long to import.
    outs = re.findall(r"^    outs:\n((?:    [- ].*\n)+)", text, re.MULTILINE)
    paths = re.findall(r"^    - path: (.*)$", "".join(outs), re.MULTILINE)
    return bool(paths) and all((folder / path.strip("'\"")).exists() for path in paths)
