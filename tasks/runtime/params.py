"""Read one section of `params.yaml` into a checked settings class.

Every step declares its own section next to its code; unknown keys, missing keys and
values out of range are refused in one sentence before the step does anything.
"""

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.runtime import yaml_text

PARAMS = Path("params.yaml")
MAX_BYTES = 100_000  # the project's has 2,400
MAX_SENTENCE, MAX_FAULTS = 2000, 10

# A number of things: what fits the counters of the libraries that are given it.
Count = Annotated[int, Field(gt=0, lt=2**31)]
# What becomes a word of a command and part of a file's name.
Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]

# What something was made with, by name: nothing that a page or a table would interpret.
Name = Annotated[str, Field(pattern=r"^\w{1,40}$")]
Parameters = dict[Name, bool | int | float | Name | None]


class BadInput(Exception):
    """Something the user gave can't be used; the message is one sentence for them.

    Whoever has a say in it, be it a server or a file: it is one line of bounded length
    without control characters, and shows neither password nor query of a URL.
    """

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def printable(text: str) -> str:
    """Return `text` as one line that can be shown to anybody."""
    text = " ".join(re.sub(r"://\S+", _without_secrets, text).split())
    if len(text) > MAX_SENTENCE:
        text = f"{text[: MAX_SENTENCE // 2]} ... {text[-MAX_SENTENCE // 2 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _without_secrets(url: re.Match[str]) -> str:
    """Hide what may be one: all before an @, and what follows a question mark.

    With string methods alone, whose time is linear in any text.
    """
    *before, rest = url[0].split("@")
    prefixes = ("".join(part.rpartition("://")[:2]) for part in before)
    hidden = [f"{prefix}***" for prefix in prefixes]
    shown, question, _ = "@".join([*hidden, rest]).partition("?")
    return f"{shown}?***" if question else shown


class Settings(BaseModel):
    """Base of every section: immutable, and no key that nobody reads.

    Types are taken at their word: `true` is no number, and neither is `"3"`.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


Section = TypeVar("Section", bound=BaseModel)


def load(section: str, settings: type[Section], path: Path = PARAMS) -> Section:
    """Return `section` of the parameter file as an instance of `settings`.

    Raises:
        BadInput: the file is missing or not YAML, or the section is missing, or one of
            its keys is missing, unknown or out of range (all of them are named).
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(
            f"{path} is missing; run this from the project's folder."
        ) from None
    if len(content) > MAX_BYTES:
        raise BadInput(f"{path} has more than {MAX_BYTES:,} bytes; remove some.")
    try:
        params = yaml_text.parse(content)
    except ValueError as error:
        raise BadInput(f"{path} is not valid YAML: {error}.") from None
    if not isinstance(params, dict) or section not in params:
        raise BadInput(f"{path} has no section `{section}`; add it.")
    try:
        return settings.model_validate(params[section])
    except ValidationError as error:
        found = error.errors(include_url=False)
        faults = [_fault(section, fault) for fault in found[:MAX_FAULTS]]
        if len(found) > MAX_FAULTS:
            faults.append(f"and {len(found) - MAX_FAULTS} more")
        raise BadInput(f"{path}: {'; '.join(faults)}.") from None


_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 80, 80


def _fault(section: str, fault: Any) -> str:
    """Say in a few words which key is wrong and why."""
    key = ".".join([section, *map(str, fault["loc"])])
    match fault["type"]:
        case "missing":
            return f"`{key}` is missing"
        case "extra_forbidden":
            return f"`{key}` is not a known key"
        case _:
            reason = fault["msg"][0].lower() + fault["msg"][1:]
            # `printable` can't tell where a URL ends that has a blank in it; here, at
            # its quotes.
            value = re.sub(
                "://[^'\"]*[@?][^'\"]*", "://***", _short.repr(fault["input"])
            )
            return f"`{key}` is {value}, but {reason}"
