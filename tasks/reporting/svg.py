"""An empty figure in the project's style, and its bytes as SVG.

The same figure gives the same bytes: no date, no version, ids from a fixed salt. Ink is
one placeholder colour, so that a page can put its own there.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("figures.mplstyle")
FOREGROUND = "#010203"
# On paper, where a figure stands alone.
DARK = "#262626"
PAPER = "#ffffff"
WRONG = "#D55E00"
# The height of a line of small text, and of the axes as a share of their figure.
LINE_INCHES = 0.17
AXES_SHARE = 0.8
# Letters of the names along an axis, side by side.
ROOM = 50

Values = npt.NDArray[np.floating]


@contextmanager
def style() -> Iterator[list[str]]:
    """Draw in the project's style inside; yields its colours."""
    with mpl.rc_context(fname=STYLE):
        yield mpl.rcParams["axes.prop_cycle"].by_key()["color"]


def axes(width: float = 7, height: float = 3.6) -> Axes:
    """Return the axes of a new figure of that many inches."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def render(axes: Axes) -> str:
    """Return the figure of `axes` as the text of an SVG element."""
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    element = text[text.index("<svg") :]
    return re.sub(r"\s*<metadata>.*?</metadata>", "", element, flags=re.DOTALL)


def inline(drawing: str, name: str) -> str:
    """Return `drawing` for a page of several: own ids, the page's ink, no size."""
    drawing = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', drawing)
    drawing = re.sub(r'(href="|url\()#', rf"\1#{name}-", drawing)
    for size in ("width", "height"):
        drawing = re.sub(rf'(<svg[^>]*?) {size}="[^"]+"', r"\1", drawing, count=1)
    return drawing.replace(FOREGROUND, "currentColor")


def alone(drawing: str) -> str:
    """Return `drawing` as a file of its own: dark ink on white paper."""
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    end = drawing.index(">") + 1
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return head + drawing[:end] + paper + drawing[end:].replace(FOREGROUND, DARK)


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write names beside the right ends of curves, none on top of another.

    Args:
        axes: where the curves are, its limits set.
        ends: of each curve its height there, its name and its colour.
    """
    low, high = axes.get_ylim()
    figure = axes.get_figure(root=True)
    assert figure is not None
    apart = LINE_INCHES / (AXES_SHARE * figure.get_figheight()) * (high - low)
    at = -np.inf
    for height, name, colour in sorted(ends):
        at = max(height, at + apart)
        axes.annotate(
            name,
            (1.01, at),
            xycoords=axes.get_yaxis_transform(),
            color=colour,
            va="center",
            fontsize=9,
        )


def name_places(axis: Axis, names: Sequence[str]) -> None:
    """Write `names` at 0, 1, 2 ... of an axis; aslant where they would not fit."""
    longest = max(map(len, names))
    aslant = isinstance(axis, XAxis) and longest * len(names) > ROOM
    axis.set_ticks(range(len(names)), names)
    axis.set_tick_params(rotation=45 if aslant else 0)


def bare(axes: Axes) -> None:
    """Take ticks and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
