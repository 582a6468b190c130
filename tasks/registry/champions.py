"""The champion: the model that passed the gate, and all that ever did.

`models/champions.jsonl` tells every change of it, one JSON object a line; its last line
says who is champion now. `models/champion.json` (that line's record),
`models/champion.safetensors` and `reports/model_card.md` are made from it, so whoever
is interrupted between two of them mends it the next time. The history is kept in git;
the models are outputs of earlier runs, which DVC keeps in its cache and remote, and
finds by their MD5.

This is state and no function of its inputs: no stage of dvc.yaml reads or writes it,
and it may hold a date.
"""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, ValidationError

from tasks.dataset.spec import ClassName, Title
from tasks.evaluation.metrics_file import Share, SplitMetrics
from tasks.modeling.architectures import Architecture
from tasks.registry import model_card
from tasks.runtime import files
from tasks.runtime.params import BadInput, Parameters, Settings, Word

FILE = Path("models/champion.safetensors")
RECORD = Path("models/champion.json")
HISTORY = Path("models/champions.jsonl")
CARD = Path("reports/model_card.md")
MD5 = r"^[0-9a-f]{32}$"


class Comparison(Settings):
    """A candidate beside the champion, on the same validation images.

    Attributes:
        accuracy: of the champion.
        gained: images that only the candidate has right.
        lost: images that only the champion has right.
        p_value: how likely at least so many gains are among all differences, if the
            two models were equally good.
        class_drop: the largest loss of recall of a class.
        dropped: the class that lost it; a number in records of earlier versions.
    """

    accuracy: float
    gained: int
    lost: int
    p_value: float
    class_drop: float
    dropped: ClassName | int


class SplitSizes(Settings):
    """The number of images in each split."""

    train: PositiveInt
    valid: PositiveInt
    test: PositiveInt


class Record(Settings):
    """What is known of a champion.

    Attributes:
        model: its name in params.yaml.
        md5: of its file, in hexadecimal.
        promoted: when it first became champion, in UTC (ISO 8601).
        replaces: `md5` of the champion before it.
        compared: with that one; None if there was none, or its file was lost.
        revision: of the code, as git names it; it may be followed by `-dirty`.
        data: the MD5 that dvc.lock gives each folder of data, by its path.
        parameters: that it was trained with.
        title: of the data; None in records of earlier versions, when it was MNIST.
        architecture: of the model.
        images: how many there were.
        valid: metrics on the validation images.
        test: metrics on the test images.
        recall: of each class, on the validation images.
    """

    model: Word
    md5: str = Field(pattern=MD5)
    promoted: str
    replaces: str | None = Field(pattern=MD5)
    compared: Comparison | None
    revision: str | None
    data: dict[str, str]
    parameters: Parameters
    title: Title | None = None
    architecture: Architecture = "linear"
    images: SplitSizes
    valid: SplitMetrics
    test: SplitMetrics
    recall: dict[ClassName, Share] = Field(min_length=1)


class Event(Settings):
    """One change of the champion.

    Attributes:
        event: whether it passed the gate, or was put back by hand.
        time: when, in UTC (ISO 8601).
        instead_of: `md5` of the champion until then.
        champion: from then on.
    """

    event: Literal["promoted", "put back"]
    time: str
    instead_of: str | None = Field(pattern=MD5)
    champion: Record


def history() -> list[Event]:
    """Return every change, the oldest first.

    Raises:
        BadInput: a line of the file is not one that `crown` writes.
    """
    try:
        lines = HISTORY.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(Event.model_validate_json(line))
        except ValidationError:
            raise BadInput(
                f"Line {number} of {HISTORY} is not a change of the champion; put the "
                f"file back with `git checkout {HISTORY}`."
            ) from None
    return events


def current() -> Record | None:
    """Return the record of the champion; None before the first."""
    events = history()
    return events[-1].champion if events else None


def rejected() -> set[str]:
    """Return the `md5` of the models that had to go for another, by hand."""
    out: set[str] = set()
    for event in history():
        if event.event == "put back" and event.instead_of:
            out.add(event.instead_of)
        out.discard(event.champion.md5)
    return out


def in_place(record: Record) -> bool:
    """Return whether the champion's files are those that `record` tells of."""
    texts = {RECORD: _json(record), CARD: model_card.card(record.model_dump())}
    return has_model(record) and all(
        path.is_file() and path.read_bytes() == text.encode()
        for path, text in texts.items()
    )


def has_model(record: Record) -> bool:
    """Return whether the file of the champion is there, and is the right one."""
    return FILE.is_file() and md5(FILE.read_bytes()) == record.md5


def settled(model: bytes) -> Record | None:
    """Return the record of the champion, its files in place, if `model` is its file."""
    record = current()
    if record is None or md5(model) != record.md5:
        return None
    if not in_place(record):
        put_in_place(record, model)
    return record


def crown(event: Event, model: bytes) -> None:
    """Make `event.champion` the champion; `model` is the content of its file.

    Raises:
        BadInput: `model` is another file than the one that the event tells of.
    """
    _verify(event.champion, model)
    line = event.model_dump_json() + "\n"
    before = HISTORY.read_text(encoding="utf-8") if HISTORY.exists() else ""
    files.write_text(HISTORY, before + line)
    put_in_place(event.champion, model)


def put_in_place(record: Record, model: bytes) -> None:
    """Write the champion's files: the model, its record, its card.

    Raises:
        BadInput: `model` is another file than the one that `record` tells of.
    """
    _verify(record, model)
    files.write_bytes(FILE, model)
    files.write_text(RECORD, _json(record))
    files.write_text(CARD, model_card.card(record.model_dump()))


def md5(content: bytes) -> str:
    """Return the MD5 by which DVC knows a file: a name, no protection."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _verify(record: Record, model: bytes) -> None:
    if md5(model) != record.md5:
        raise BadInput(f"What was found of {record.md5} is damaged; it was not used.")


def _json(record: Record) -> str:
    return record.model_dump_json(indent=2) + "\n"
