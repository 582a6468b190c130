"""Write the report: one page to read, and its figures.

Reads `data/normalized/`, `models/` and the results of evaluate under `reports/`. Writes
`reports/report.html`, which needs no other file, and `reports/figures/*.svg`.
"""

from pathlib import Path

from tasks.dataset import splits
from tasks.evaluation import model_set
from tasks.rawdata import dataset_card
from tasks.rawdata.dataset_card import ReportedResults
from tasks.reporting import figures, html, run, svg
from tasks.reporting.run import REPORTS, Run
from tasks.runtime import cli, files
from tasks.runtime.params import load

NORMALIZED = Path("data/normalized")


def report(shown: Run) -> tuple[str, dict[str, str]]:
    """Return the page of a run, and its figures: SVG elements by name."""
    drawn = figures.draw(shown)
    return html.render(shown, drawn), drawn


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    parts = {name: splits.load(NORMALIZED, name) for name in splits.SPLITS}
    facts = splits.load_facts(NORMALIZED)
    reported = load("report", ReportedResults, dataset_card.selected())
    page, drawn = report(run.read(parts, facts, reported, model_set.read()))
    for name, figure in drawn.items():
        files.write_text(REPORTS / "figures" / f"{name}.svg", svg.alone(figure))
    files.write_text(REPORTS / "report.html", page)
    print(f"{REPORTS / 'report.html'}, with {len(drawn)} figures")


if __name__ == "__main__":
    cli.run(main)
