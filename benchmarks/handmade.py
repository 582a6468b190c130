"""Measure how well a model classifies digits that are not MNIST's.

The ten digits are printed in the fonts of this machine or drawn as strokes with jitter.
They are clean, photographed (noise, a shadow, tilt up to 12 degrees) or spoilt (tilt up
to 40 degrees, blurred, noisier), dark on bright or bright on dark, in several sizes.
The step `predict` reads them as PNG files.
`python benchmarks/handmade.py [MODEL] [--keep FOLDER]`; the champion by default.
"""

import argparse
import csv
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import matplotlib as mpl
import measure
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

sys.path.insert(0, str(measure.ROOT))

from tasks import predict
from tasks.inference import image_stream
from tasks.modeling import calibration
from tasks.runtime import cli

SEED = 7
# Among accepted predictions, on images like those of the validation set.
MAX_ERROR = 0.001
FONTS = Path("/usr/share/fonts")
PATTERNS = (
    "*Sans-Bold.ttf",
    "*Sans-Regular.ttf",
    "*Serif-Regular.ttf",
    "DejaVuSans.ttf",
)
MOST_FONTS = 8
SIZES = (28, 64, 120, 300)
COPIES = 12  # of every stroke digit, each with its own jitter
# Points of each digit's lines, x to the right and y down, 0 to 1; some digits have
# two shapes.
STROKES: dict[int, list[list[list[tuple[float, float]]]]] = {
    0: [[[(0.5, 0.05), (0.2, 0.25), (0.15, 0.6), (0.35, 0.93), (0.65, 0.93),
         (0.85, 0.6), (0.8, 0.25), (0.5, 0.05)]]],
    1: [[[(0.52, 0.05), (0.5, 0.95)]], [[(0.3, 0.28), (0.55, 0.05), (0.55, 0.95)]]],
    2: [[[(0.2, 0.28), (0.35, 0.07), (0.65, 0.07), (0.8, 0.3), (0.55, 0.62),
         (0.2, 0.93), (0.85, 0.93)]]],
    3: [[[(0.2, 0.12), (0.55, 0.05), (0.78, 0.25), (0.45, 0.47), (0.8, 0.68),
         (0.6, 0.94), (0.18, 0.88)]]],
    4: [[[(0.6, 0.05), (0.15, 0.62), (0.88, 0.62)], [(0.65, 0.35), (0.65, 0.95)]],
        [[(0.25, 0.05), (0.2, 0.5), (0.8, 0.5)], [(0.78, 0.08), (0.75, 0.95)]]],
    5: [[[(0.8, 0.07), (0.28, 0.07), (0.24, 0.45), (0.6, 0.42), (0.82, 0.66),
         (0.6, 0.93), (0.2, 0.88)]]],
    6: [[[(0.68, 0.05), (0.3, 0.4), (0.22, 0.72), (0.45, 0.95), (0.75, 0.78),
         (0.65, 0.55), (0.27, 0.65)]]],
    7: [[[(0.15, 0.08), (0.83, 0.08), (0.42, 0.95)]],
        [[(0.15, 0.08), (0.83, 0.08), (0.42, 0.95)], [(0.3, 0.5), (0.75, 0.5)]]],
    8: [[[(0.5, 0.48), (0.24, 0.25), (0.5, 0.05), (0.76, 0.25), (0.5, 0.48),
         (0.2, 0.73), (0.5, 0.95), (0.8, 0.73), (0.5, 0.48)]]],
    9: [[[(0.76, 0.3), (0.5, 0.5), (0.25, 0.28), (0.5, 0.06), (0.76, 0.25),
         (0.72, 0.6), (0.58, 0.95)]]],
}  # fmt: skip
LARGE = 360


def fonts() -> dict[str, Path]:
    """Return some of this machine's and matplotlib's fonts by name."""
    folders = (FONTS, Path(mpl.get_data_path(), "fonts", "ttf"))
    found = {
        path.stem: path
        for pattern in PATTERNS
        for folder in folders
        for path in sorted(folder.rglob(pattern))
    }
    return dict(sorted(found.items())[:MOST_FONTS])


def printed(digit: int, font: Path) -> Image.Image:
    """Return a digit printed in a font, white on black."""
    image = Image.new("L", (LARGE, LARGE))
    draw = ImageDraw.Draw(image)
    face = ImageFont.truetype(font, LARGE * 3 // 5)
    draw.text((LARGE / 2, LARGE / 2), str(digit), 255, font=face, anchor="mm")
    return image


def drawn(digit: int, chance: random.Random) -> Image.Image:
    """Return a digit drawn in curved strokes with jitter, white on black."""
    image = Image.new("L", (LARGE, LARGE))
    draw = ImageDraw.Draw(image)
    width = chance.randint(LARGE // 36, LARGE // 13)
    tall, wide = chance.uniform(0.55, 0.7), chance.uniform(0.38, 0.55)
    slant = chance.uniform(-0.05, 0.22)
    for line in chance.choice(STROKES[digit]):
        moved = [
            (x + chance.gauss(0, 0.02), y + chance.gauss(0, 0.02)) for x, y in line
        ]
        points = [
            (
                LARGE * (0.5 + wide * (x - 0.5) + tall * slant * (0.5 - y)),
                LARGE * (0.5 + tall * (y - 0.5)),
            )
            for x, y in (curve(moved) if len(moved) > 3 else moved)
        ]
        draw.line(points, 255, width, joint="curve")
        for x, y in points:
            reach = width / 2
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), 255)
    return image


def curve(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points on a smooth curve through `points` (Catmull and Rom 1974)."""
    ends = np.array([points[0], *points, points[-1]])
    t = np.linspace(0, 1, 16)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
               + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]  # fmt: skip
    return [(float(x), float(y)) for x, y in np.concatenate(parts)]


def clean(
    drawing: Image.Image,
    size: int,
    bright: bool,  # noqa: FBT001  # all looks have one signature
    _: random.Random,
) -> Image.Image:
    """Return the digit on an even background."""
    small = drawing.resize((size, size), Image.Resampling.LANCZOS)
    return small if bright else small.point(lambda value: 255 - value)


def photographed(
    drawing: Image.Image,
    size: int,
    bright: bool,  # noqa: FBT001  # all looks have one signature
    chance: random.Random,
) -> Image.Image:
    """Return the digit as photographed: tilted, in a shadow, with noise."""
    tilted = drawing.rotate(chance.uniform(-12, 12), Image.Resampling.BICUBIC)
    share = np.asarray(tilted.resize((size, size), Image.Resampling.LANCZOS)) / 255
    paper, pen = chance.uniform(170, 235), chance.uniform(20, 80)
    if bright:
        paper, pen = pen, paper
    y, x = np.mgrid[:size, :size] / size
    turn = chance.uniform(0, 2 * np.pi)
    ramp = (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn) + 0.5
    light = 1 - chance.uniform(0.1, 0.5) * ramp
    noise = np.random.default_rng(chance.randrange(2**32)).normal(
        0, chance.uniform(3, 14), (size, size)
    )
    values = (paper + (pen - paper) * share) * light + noise
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def spoilt(
    drawing: Image.Image,
    size: int,
    bright: bool,  # noqa: FBT001  # all looks have one signature
    chance: random.Random,
) -> Image.Image:
    """Return the digit spoilt: strongly tilted, out of focus, dark."""
    turned = drawing.rotate(chance.uniform(-40, 40), Image.Resampling.BICUBIC)
    blurred = turned.filter(ImageFilter.GaussianBlur(chance.uniform(5, 20)))
    dim = Image.eval(blurred, lambda value: value * 2 // 3)
    shown = np.asarray(photographed(dim, size, bright, chance), np.float64)
    noise = np.random.default_rng(chance.randrange(2**32)).normal(
        0, chance.uniform(10, 30), shown.shape
    )
    return Image.fromarray(np.clip(shown + noise, 0, 255).astype(np.uint8))


LOOKS: dict[str, Callable[[Image.Image, int, bool, random.Random], Image.Image]] = {
    "clean": clean,
    "photographed": photographed,
    "spoilt": spoilt,
}


def write_images(folder: Path) -> int:
    """Write the images into `folder`, named GROUP-DIGIT-NUMBER.png; return how many."""
    chance = random.Random(SEED)  # noqa: S311  # not for cryptography
    count = 0
    for digit in range(10):
        drawings = [("printed", printed(digit, path)) for path in fonts().values()]
        drawings += [("drawn", drawn(digit, chance)) for _ in range(COPIES)]
        for source, drawing in drawings:
            for look, show in LOOKS.items():
                size, bright = chance.choice(SIZES), chance.random() < 0.5
                image = show(drawing, size, bright, chance)
                image.save(folder / f"{source}_{look}-{digit}-{count:04}.png")
                count += 1
    return count


def count_results(table: Path, threshold: float) -> dict[str, dict[str, int]]:
    """Return for each group how many are right, wrong and set aside."""
    groups: dict[str, Counter[str]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            group, digit, _ = Path(row["path"]).name.split("-")
            result = "right" if row["prediction"] == digit else "wrong"
            if not row["prediction"]:
                result = "unread"
            for name in (group, "all"):
                counter = groups.setdefault(name, Counter())
                counter["images"] += 1
                counter[result] += 1
                probability = float(row["probability"] or 0)
                counter[f"{result}_set_aside"] += probability < threshold
    names = (
        *("images", "right", "right_set_aside"),
        *("wrong", "wrong_set_aside", "unread"),
    )
    return {group: {n: counts[n] for n in names} for group, counts in groups.items()}


def main() -> None:
    """Make and classify the images, count, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--keep", type=Path, help="a folder for images and predictions")
    arguments = parser.parse_args()
    cli.limit_threads()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        (folder / "images").mkdir(parents=True, exist_ok=True)
        write_images(folder / "images")
        with chdir(measure.ROOT):
            chosen = predict.choose(arguments.model, Path())
            wanted = image_stream.input_files([str(folder / "images")], Path())
            predict.write(wanted, chosen, folder, "csv", 500)
        measured = chosen.model.description.calibration
        limit = calibration.threshold(measured, MAX_ERROR) if measured else None
        threshold = np.inf if limit is None else limit
        groups = count_results(folder / "predictions.csv", threshold)
    for group, counts in groups.items():
        print(f"{group:22}", *(f"{name} {count:4}" for name, count in counts.items()))
    result = {
        "model": chosen.name,
        "md5": chosen.md5,
        "fonts": list(fonts()),
        "max_error": MAX_ERROR,
        "threshold": limit,
    }
    path = measure.RESULTS / "handmade.json"
    path.write_text(json.dumps(result | {"kinds": groups}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
