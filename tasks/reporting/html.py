"""The report as one HTML page that needs nothing else: its drawings are inside."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.dataset.splits import Facts

TEMPLATE = Path(__file__).with_name("report.html.j2")
# What the numbers depend on.
PACKAGES = ("numpy", "scikit-learn", "torch")


@dataclass(frozen=True)
class Drawing:
    """One figure of the page.

    Attributes:
        name: of its file, and of its place in the template.
        caption: what to see in it, one or two sentences.
        alternative: what it shows, for those who can't see it.
    """

    name: str
    caption: str
    alternative: str


def render(
    *,
    metrics: Mapping[str, Any],
    counts: Mapping[str, int],
    facts: Facts,
    params: Mapping[str, Mapping[str, Any]],
    drawings: Mapping[str, tuple[Drawing, str]],
) -> str:
    """Return the page.

    Args:
        metrics: the content of `reports/metrics.json`.
        counts: images in each split.
        facts: on the data.
        params: what each model was trained with.
        drawings: by name, each with its SVG element.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE.name).render(
        metrics=metrics,
        counts=counts,
        facts=facts,
        quantities="rmse" in metrics["test"],
        params=params,
        keys=_used(params),
        versions={name: metadata.version(name) for name in PACKAGES},
        # Made by this project, not by its data: not to be escaped.
        drawings={name: (d, Markup(svg)) for name, (d, svg) in drawings.items()},  # noqa: S704  # see above
    )


def _used(params: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the parameters that any model made use of."""
    return list(
        dict.fromkeys(
            key for values in params.values() for key, value in values.items() if value
        )
    )
