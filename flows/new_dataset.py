"""Look at your own data and write its data sheet: `python -m flows.new_dataset FOLDER`.

FOLDER holds four IDX files (gzipped or not), or folders of images that are named after
their class, beneath `train` and `test` or not. It may also be an `.npz` file, or
`sklearn:digits`. What is guessed of it is told; `datasets/NAME.yaml` has it all, to be
read and changed. Nothing is run, and the data is left as it is.
"""

import os
from pathlib import Path

from pydantic import ValidationError

from tasks.onboarding import infer_card
from tasks.rawdata import dataset_card
from tasks.rawdata.dataset_card import Dataset
from tasks.runtime import cli
from tasks.runtime.params import BadInput, printable
from tasks.sources import convert

ROOT = Path(__file__).resolve().parent.parent


def new_dataset(source: str, name: str | None, *, force: bool) -> None:
    """Write `datasets/NAME.yaml` for the data at `source`, and say what was guessed.

    Raises:
        BadInput: no data set can be made of it, or there is such a sheet already.
    """
    called = "digits"
    if source != convert.DIGITS:
        called = Path(source).name.removesuffix(".npz")
    name = _word(name or infer_card.name_of(called))
    path = dataset_card.FOLDER / f"{name}.yaml"
    if path.exists() and not force:
        raise BadInput(
            f"{path} is there already; choose another name by --name, or replace it by "
            "--force."
        )
    card = infer_card.infer(source, called)
    infer_card.write(card, name, dataset_card.FOLDER)
    for sentence in card.found:
        print(printable(f"found: {sentence}."))
    for sentence in card.assumptions:
        print(printable(f"guessed: {sentence}."))
    print(f"{path} is written; read it, and put this line into params.yaml:")
    print(f"dataset: {name}")


def _word(name: str) -> str:
    try:
        return Dataset.model_validate(name).root
    except ValidationError:
        raise BadInput(
            f"{name!r} can't be the name of a data sheet; give one by --name, of small "
            "letters, digits and _, that begins with a letter."
        ) from None


def _from_root(source: str) -> str:
    """Return the path as seen from the project's folder, absolute if outside of it."""
    if source == convert.DIGITS:
        return source
    path = Path(os.path.normpath(Path(source).absolute()))
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def main() -> None:
    """Run the command."""
    parser = cli.parser(__doc__)
    parser.prog = "python -m flows.new_dataset"
    parser.add_argument("source", metavar="FOLDER", help="the data")
    parser.add_argument("--name", help="of the data sheet; else from FOLDER's name")
    parser.add_argument(
        "--force", action="store_true", help="replace a data sheet of that name"
    )
    arguments = parser.parse_args()
    source = _from_root(arguments.source)
    os.chdir(ROOT)
    new_dataset(source, arguments.name, force=arguments.force)


if __name__ == "__main__":
    cli.run(main)
