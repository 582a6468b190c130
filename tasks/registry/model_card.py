"""The model card of the champion, in the form of Mitchell and others (2019)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATE = Path(__file__).with_name("model_card.md.j2")


def card(record: Mapping[str, Any]) -> str:
    """Return the card, in Markdown, of a champion's record (see `champions.Record`).

    It says what the record says and no more, so the card of an earlier champion can be
    written again.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=False,  # noqa: S701  # Markdown, of the project's own records
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["places"] = lambda number: f"{number:.4f}"
    return environment.get_template(TEMPLATE.name).render(record)
