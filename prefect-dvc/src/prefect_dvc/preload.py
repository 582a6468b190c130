"""The modules that a project preloads: `[tool.prefect-dvc]` in pyproject.toml.

This module imports neither Prefect nor DVC, so a program can start the preloading first
and import Prefect while it runs.
"""

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
            section = tomllib.loads(path.read_text(encoding="utf-8"))["tool"][
                "prefect-dvc"
            ]
        except KeyError:
            continue
        except ValueError as error:
            raise ProjectError(f"{path} is not valid TOML: {error}.") from None
        match section:
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
        lines = (folder / "dvc.lock").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    paths, inside = [], False
    for line in lines:  # the indentation is DVC's own
        if line.startswith("    ") and line[4:5].isalpha():
            inside = line == "    outs:"
        elif inside and line.startswith("    - path: "):
            paths.append(line.partition("path: ")[2].strip("'\""))
    return bool(paths) and all((folder / path).exists() for path in paths)
