import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np

from tasks.reporting import svg


def drawing() -> str:
    with svg.style():
        axes = svg.axes()
        axes.plot([1, 2, 3], [3, 1, 2])
        axes.imshow(np.arange(4).reshape(2, 2))
        axes.set_title("A title")
        return svg.render(axes)


def test_drawing_is_an_svg_element_without_date_or_version():
    text = drawing()
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "metadata" not in text
    assert "Matplotlib" not in text
    assert "<dc:" not in text
    assert "A title" in text, "text is not converted to paths"


def test_same_figure_gives_same_bytes_in_any_process():
    program = f"import sys; sys.path[:] = {sys.path}; import test_svg as t"
    other = subprocess.run(
        [sys.executable, "-c", f"{program}; print(t.drawing(), end='')"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout == drawing()


def test_inline_drawings_have_unique_ids_and_the_text_colour_of_the_page():
    text = svg.inline(drawing(), "loss")
    ids = re.findall(r' id="([^"]+)"', text)
    assert ids
    assert all(name.startswith("loss-") for name in ids)
    referred = re.findall(r'(?:xlink:href="|url\()#([^")]+)', text)
    assert referred
    assert set(referred) <= set(ids)
    assert svg.FOREGROUND not in text
    assert "currentColor" in text
    root = ET.fromstring(text)
    assert "width" not in root.attrib
    assert "viewBox" in root.attrib


def test_standalone_drawings_are_dark_on_white():
    text = svg.standalone(drawing())
    assert svg.FOREGROUND not in text
    paper = ET.fromstring(text.encode())[0]
    assert paper.attrib["fill"] == "#ffffff"


def test_labels_at_the_ends_of_curves_do_not_overlap():
    axes = svg.axes()
    axes.set_ylim(0, 1)
    svg.label_ends(axes, [(0.5, name, "black") for name in "abc"])
    heights = sorted(text.xy[1] for text in axes.texts)
    assert np.diff(heights).min() * 3.6 * svg.AXES_SHARE >= svg.LINE_INCHES - 1e-9
