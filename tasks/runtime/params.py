"""Read one section of `params.yaml` into a validated settings class.

Each step declares the settings of its section next to its code. Unknown keys, missing
keys and values out of range are reported in one sentence before the step starts.
"""

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.runtime import yaml_text

PARAMS = Path("params.yaml")
MAX_BYTES = 100_000  # the project's file has 2,400
MAX_SENTENCE, MAX_FAULTS = 2000, 10

# A positive number that fits the 32-bit counters of libraries.
Count = Annotated[int, Field(gt=0, lt=2**31)]
# A name that is part of commands and file names.
Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
# The parameters a model was trained with. Names are safe in HTML and Markdown.
Name = Annotated[str, Field(pattern=r"^\w{1,40}$")]
Parameters = dict[Name, bool | int | float | Name | None]


class BadInput(Exception):
    """Invalid input from the user, a server or a file; the message is one sentence.

    The message is a single line of limited length without control characters, and
    without the passwords and queries of URLs.
    """

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def printable(text: str) -> str:
    """Return `text` as one line of limited length that is safe to print."""
    text = " ".join(re.sub(r"://\S+", _redacted, text).split())
    if len(text) > MAX_SENTENCE:
        text = f"{text[: MAX_SENTENCE // 2]} ... {text[-MAX_SENTENCE // 2 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _redacted(url: re.Match[str]) -> str:
    """Hide the user information and the query of a URL, in linear time."""
    *before, rest = url[0].split("@")
    hidden = ["".join(part.rpartition("://")[:2]) + "***" for part in before]
    shown, question_mark, _ = "@".join([*hidden, rest]).partition("?")
    return f"{shown}?***" if question_mark else shown


class Settings(BaseModel):
    """Base class of sections: immutable, without unknown keys.

    Types are strict: neither `true` nor `"3"` is a number.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


Section = TypeVar("Section", bound=BaseModel)


def load(section: str, settings: type[Section], path: Path = PARAMS) -> Section:
    """Return `section` of the parameter file as an instance of `settings`.

    Raises:
        BadInput: the file is missing or not YAML, the section is missing, or some of
            its keys are missing, unknown or out of range (all are named).
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(
            f"{path} is missing; run this from the project's folder."
        ) from None
    if len(content) > MAX_BYTES:
        raise BadInput(f"{path} has more than {MAX_BYTES:,} bytes; shorten it.")
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
    """Return which key is wrong and why."""
    key = ".".join([section, *map(str, fault["loc"])])
    match fault["type"]:
        case "missing":
            return f"`{key}` is missing"
        case "extra_forbidden":
            return f"`{key}` is not a known key"
        case _:
            reason = fault["msg"][0].lower() + fault["msg"][1:]
            # `printable` ends a URL at a space; this one ends at its quotes.
            value = re.sub(
                "://[^'\"]*[@?][^'\"]*", "://***", _short.repr(fault["input"])
            )
            return f"`{key}` is {value}, but {reason}"
