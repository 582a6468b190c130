"""Write the report: one page to read, and its figures.

Reads `data/normalized/`, `models/` and the results of evaluate under `reports/`. Writes
`reports/report.html`, which needs no other file, and `reports/figures/*.svg`.
"""

from tasks.reporting import figures, html, run, svg
from tasks.reporting.run import REPORTS, Run
from tasks.runtime import cli, files


def report(shown: Run) -> tuple[str, dict[str, str]]:
    """Return the page of a run, and its figures: SVG elements by name."""
    drawn = figures.draw(shown)
    return html.render(shown, drawn), drawn


def main() -> None:
    """Run the step on the project's folders."""
    cli.parser(__doc__).parse_args()
    page, drawn = report(run.read())
    for name, figure in drawn.items():
        files.write_text(REPORTS / "figures" / f"{name}.svg", svg.standalone(figure))
    files.write_text(REPORTS / "report.html", page)
    print(f"{REPORTS / 'report.html'}, with {len(drawn)} figures")


if __name__ == "__main__":
    cli.run(main)
