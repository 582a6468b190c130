"""The champion's model card, after Mitchell and others (2019)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATE = Path(__file__).with_name("model_card.md.j2")


def card(record: Mapping[str, Any]) -> str:
    """Return the model card, in Markdown, of a champion's record (`champions.Record`).

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
    return environment.get_template(TEMPLATE.name).render(record)
