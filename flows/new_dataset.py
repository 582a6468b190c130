"""Write a dataset card for your own data: `python -m flows.new_dataset FOLDER`.

FOLDER holds four IDX files (gzipped or not), or folders of images named after their
class, optionally in `train` and `test`. It may also be an `.npz` file, or
`sklearn:digits`. The command prints every guess and writes `datasets/NAME.yaml`, which
you can read and change. It runs no step and leaves the data as it is.
"""

import os
from pathlib import Path

from pydantic import ValidationError

from flows.command_line import ROOT, parser
from tasks.onboarding import infer_card
from tasks.rawdata import dataset_card
from tasks.rawdata.dataset_card import Dataset
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, printable
from tasks.sources import convert


def new_dataset(source: str, name: str | None, *, force: bool) -> None:
    """Write `datasets/NAME.yaml` for the data at `source`, and print what was guessed.

    Raises:
        BadInput: the data can't be used, the name is invalid, or the card exists.
    """
    title = Path(source).name.removesuffix(".npz").removeprefix("sklearn:")
    name = name or infer_card.name_of(title)
    try:
        Dataset.model_validate(name)
    except ValidationError:
        raise BadInput(
            f"{name!r} can't be the name of a dataset card; choose one with --name: "
            "lower-case letters, digits and _, starting with a letter."
        ) from None
    path = dataset_card.FOLDER / f"{name}.yaml"
    if path.exists() and not force:
        raise BadInput(
            f"{path} exists; choose another name with --name, or replace the card with "
            "--force."
        )
    card = infer_card.infer(source, name, title)
    files.write_text(path, card.text)
    for finding in card.findings:
        print(printable(f"found: {finding}."))
    for assumption in card.assumptions:
        print(printable(f"guessed: {assumption}."))
    print(f"wrote {path}; check it, then put this line into params.yaml:")
    print(f"dataset: {name}")


def _from_root(source: str) -> str:
    """Return the path relative to the project's folder, absolute if outside of it."""
    if source == convert.DIGITS:
        return source
    path = Path(os.path.normpath(Path(source).absolute()))
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def main() -> None:
    """Run the command."""
    command = parser("flows.new_dataset", __doc__)
    command.add_argument("source", metavar="FOLDER", help="the data")
    command.add_argument("--name", help="of the dataset card (default: from FOLDER)")
    command.add_argument(
        "--force", action="store_true", help="replace a card that has this name"
    )
    arguments = command.parse_args()
    source = _from_root(arguments.source)
    os.chdir(ROOT)
    new_dataset(source, arguments.name, force=arguments.force)


if __name__ == "__main__":
    cli.run(main)
