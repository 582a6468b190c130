"""The report as one HTML page that needs no other file: its figures are inside."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.reporting import svg
from tasks.reporting.run import Run

TEMPLATE = Path(__file__).with_name("report.html.j2")
# The numbers depend on the versions of these packages.
PACKAGES = ("numpy", "scikit-learn", "torch")


def render(run: Run, figures: Mapping[str, str]) -> str:
    """Return the page of `run`, with its figures, SVG elements by name."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Taken from the models, not from params.yaml, which may have changed since.
    params = {name: model.description.parameters for name, model in run.models.items()}
    # Not to be escaped: matplotlib has escaped all text in its drawings.
    inline = {name: Markup(svg.inline(text, name)) for name, text in figures.items()}  # noqa: S704  # see above
    return environment.get_template(TEMPLATE.name).render(
        metrics=run.metrics,
        counts={name: len(split.labels) for name, split in run.splits.items()},
        facts=run.facts,
        first_class=run.facts.classes[run.splits["train"].labels[0]],
        networks=list(run.loss),
        params=params,
        # The parameters that any model has, and that are not off.
        keys=dict.fromkeys(k for own in params.values() for k in own if own[k]),
        versions={name: metadata.version(name) for name in PACKAGES},
        figures=inline,
    )
