"""Read one section of `params.yaml` into a checked settings class.

Every step declares its own section next to its code; unknown keys, missing keys and
values out of range are refused in one sentence before the step does anything.
"""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

PARAMS = Path("params.yaml")


class BadInput(Exception):
    """Something the user gave can't be used; the message is one sentence for them."""

    exit_code = 1


class Settings(BaseModel):
    """Base of every section: immutable, and no key that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Section = TypeVar("Section", bound=Settings)


def load(section: str, settings: type[Section], path: Path = PARAMS) -> Section:
    """Return `section` of the parameter file as an instance of `settings`.

    Raises:
        BadInput: the file is missing or not YAML, or the section is missing, or one of
            its keys is missing, unknown or out of range (all of them are named).
    """
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"{path} is missing; run this from the project's folder."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path} is not valid YAML: {reason}.") from None
    if not isinstance(params, dict) or section not in params:
        raise BadInput(f"{path} has no section `{section}`; add it.")
    try:
        return settings.model_validate(params[section])
    except ValidationError as error:
        faults = "; ".join(_fault(section, fault) for fault in error.errors())
        raise BadInput(f"{path}: {faults}.") from None


def _fault(section: str, fault: object) -> str:
    """Say in a few words which key is wrong and why."""
    assert isinstance(fault, dict)
    key = ".".join([section, *map(str, fault["loc"])])
    match fault["type"]:
        case "missing":
            return f"`{key}` is missing"
        case "extra_forbidden":
            return f"`{key}` is not a known key"
        case _:
            reason = fault["msg"][0].lower() + fault["msg"][1:]
            return f"`{key}` is {fault['input']!r}, but {reason}"
