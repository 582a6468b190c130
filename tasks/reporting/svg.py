"""Create figures in the project's style, and write them as SVG.

The same figure gives the same bytes: no date, no version, ids from a fixed salt. The
foreground is a placeholder colour, which a page replaces by its own text colour.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure

STYLE = Path(__file__).with_name("figures.mplstyle")
FOREGROUND = "#010203"
# The colours of a standalone file.
DARK = "#262626"
PAPER = "#ffffff"
WRONG = "#D55E00"
LINE_INCHES = 0.17  # height of a line of small text
AXES_SHARE = 0.8  # of the height of their figure
MAX_LETTERS = 50  # of all tick labels of an x axis together, if they are horizontal

Values = npt.NDArray[np.floating]


@contextmanager
def style() -> Iterator[list[str]]:
    """Draw in the project's style inside the block; yields the palette."""
    with mpl.rc_context(fname=STYLE):
        yield mpl.rcParams["axes.prop_cycle"].by_key()["color"]


def axes(width: float = 7, height: float = 3.6) -> Axes:
    """Return the axes of a new figure, its size in inches."""
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
    """Return `drawing` for a page: unique ids, the page's text colour, no size."""
    drawing = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', drawing)
    drawing = re.sub(r'(href="|url\()#', rf"\1#{name}-", drawing)
    for size in ("width", "height"):
        drawing = re.sub(rf'(<svg[^>]*?) {size}="[^"]+"', r"\1", drawing, count=1)
    return drawing.replace(FOREGROUND, "currentColor")


def standalone(drawing: str) -> str:
    """Return `drawing` as a standalone file: dark on white."""
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    end = drawing.index(">") + 1
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return head + drawing[:end] + paper + drawing[end:].replace(FOREGROUND, DARK)


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write labels beside the right ends of curves, without overlaps.

    Call it when the limits of the axes are final. `ends` holds the height, the label
    and the colour of each curve.
    """
    low, high = axes.get_ylim()
    figure = axes.get_figure(root=True)
    assert figure is not None
    line = LINE_INCHES / (AXES_SHARE * figure.get_figheight()) * (high - low)
    y = -np.inf
    for height, label, colour in sorted(ends):
        y = max(height, y + line)
        style: dict[str, Any] = {"color": colour, "va": "center", "fontsize": 9}
        axes.annotate(label, (1.01, y), xycoords=axes.get_yaxis_transform(), **style)


def label_ticks(axis: Axis, names: Sequence[str]) -> None:
    """Write `names` at 0, 1, 2 ... of an axis, slanted if they would overlap."""
    letters = max(map(len, names)) * len(names)
    axis.set_ticks(range(len(names)), names)
    slanted = isinstance(axis, XAxis) and letters > MAX_LETTERS
    axis.set_tick_params(rotation=45 if slanted else 0)


def hide_frame(axes: Axes) -> None:
    """Remove the ticks and the frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
