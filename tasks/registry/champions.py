"""The champion: the best model that passed the gate, and the history of champions.

`models/champions.jsonl` has a JSON object per change; the last one names the current
champion. Three files are derived from it and rewritten if they are missing or differ:
`models/champion.json` (the champion's record), `models/champion.safetensors` and
`reports/model_card.md`. The history is kept in git. The models are outputs of earlier
runs: DVC keeps them in its cache and remote under their MD5.

The champion is state, not a function of a run's inputs, so no stage of dvc.yaml reads
or writes these files, and they may hold dates.
"""

import hashlib
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field, PositiveInt, ValidationError

from tasks.dataset.spec import ClassName, Title
from tasks.evaluation.metrics_file import Share, SplitMetrics
from tasks.modeling.architectures import Architecture
from tasks.runtime import files
from tasks.runtime.params import BadInput, Parameters, Settings, Word

FILE = Path("models/champion.safetensors")
RECORD = Path("models/champion.json")
HISTORY = Path("models/champions.jsonl")
CARD = Path("reports/model_card.md")
TEMPLATE = Path(__file__).with_name("model_card.md.j2")
MD5 = r"^[0-9a-f]{32}$"


class Comparison(Settings):
    """A candidate compared with the champion on the same validation images."""

    accuracy: float  # of the champion
    gained: int  # images that only the candidate classifies correctly
    lost: int  # images that only the champion classifies correctly
    p_value: float  # of at least this many gains if both were equally good
    class_drop: float  # the largest loss of recall of a class
    dropped: ClassName | int  # that class; a number in records of earlier versions


class SplitSizes(Settings):
    """The number of images in each split."""

    train: PositiveInt
    valid: PositiveInt
    test: PositiveInt


class Record(Settings):
    """The record of a champion."""

    model: Word
    md5: str = Field(pattern=MD5)
    promoted: str  # when it first became champion, in UTC (ISO 8601)
    replaces: str | None = Field(pattern=MD5)  # `md5` of the previous champion
    compared: Comparison | None  # with that one, if both could be compared
    revision: str | None  # of git; with `-dirty` if the checkout had changes
    data: dict[str, str]  # the MD5 of each data folder in dvc.lock, by path
    parameters: Parameters
    title: Title | None = None  # of the data; earlier versions, for MNIST, had none
    architecture: Architecture = "linear"
    images: SplitSizes
    valid: SplitMetrics
    test: SplitMetrics
    recall: dict[ClassName, Share] = Field(min_length=1)  # in validation


class Event(Settings):
    """A change of the champion: it passed the gate, or was put back by hand."""

    event: Literal["promoted", "put back"]
    time: str  # in UTC (ISO 8601)
    instead_of: str | None = Field(pattern=MD5)  # `md5` of the previous champion
    champion: Record


def history() -> list[Event]:
    """Return every change of the champion, the oldest first; refuse an invalid line."""
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
                f"Line {number} of {HISTORY} is not a change of the champion; restore "
                f"the file with `git checkout {HISTORY}`."
            ) from None
    return events


def current() -> Record | None:
    """Return the record of the champion; None before the first."""
    events = history()
    return events[-1].champion if events else None


def rejected() -> set[str]:
    """Return the `md5` of each model that was rolled back and not put back since."""
    md5s: set[str] = set()
    for event in history():
        if event.event == "put back" and event.instead_of:
            md5s.add(event.instead_of)
        md5s.discard(event.champion.md5)
    return md5s


def has_model(record: Record) -> bool:
    """Return whether the champion's file exists and has the recorded MD5."""
    return FILE.is_file() and md5(FILE.read_bytes()) == record.md5


def in_place(record: Record) -> bool:
    """Return whether all of the champion's files match `record`."""
    return has_model(record) and all(
        path.is_file() and path.read_bytes() == text.encode()
        for path, text in _texts(record).items()
    )


def settled(model: bytes) -> Record | None:
    """Return the champion's record if `model` is its file, restoring its files."""
    record = current()
    if record is None or md5(model) != record.md5:
        return None
    if not in_place(record):
        put_in_place(record, model)
    return record


def crown(event: Event, model: bytes) -> None:
    """Append `event` to the history and write the champion's files.

    Nothing is written if `model` does not have the recorded MD5.
    """
    _verify(event.champion, model)
    line = event.model_dump_json() + "\n"
    before = HISTORY.read_text(encoding="utf-8") if HISTORY.exists() else ""
    files.write_text(HISTORY, before + line)
    put_in_place(event.champion, model)


def put_in_place(record: Record, model: bytes) -> None:
    """Write the champion's model, record and card; refuse a model of another MD5."""
    _verify(record, model)
    files.write_bytes(FILE, model)
    for path, text in _texts(record).items():
        files.write_text(path, text)


def model_card(record: Record) -> str:
    """Return the champion's model card, in Markdown, after Mitchell and others (2019).

    It depends on the record alone, so an earlier champion's card can be restored.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=False,  # noqa: S701  # Markdown, from the project's own records
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["places"] = lambda number: f"{number:.4f}"
    return environment.get_template(TEMPLATE.name).render(record.model_dump())


def md5(content: bytes) -> str:
    """Return the MD5 that DVC identifies a file by; not for security."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _verify(record: Record, model: bytes) -> None:
    if md5(model) != record.md5:
        raise BadInput(f"The file of champion {record.md5} has another MD5; not used.")


def _texts(record: Record) -> dict[Path, str]:
    """Return the content of the files derived from the record."""
    return {
        RECORD: record.model_dump_json(indent=2) + "\n",
        CARD: model_card(record),
    }
