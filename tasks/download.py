"""Get the data: four files in the IDX format, from the first source that has them.

Reads the sections `download` and `images` of the dataset card; writes the four
uncompressed files to `data/raw`. Each is known by its SHA-256, so that whatever source
serves, the same bytes arrive, be they only made here of images that are kept otherwise
(`tasks.sources.convert`). A transfer that broke off is continued by the next run, from
`data/.partial`.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from tasks.dataset.spec import DatasetSpec
from tasks.rawdata import dataset_card, idx
from tasks.runtime import cli, files
from tasks.runtime.params import BadInput, Count, Settings, load, printable
from tasks.sources import convert, fetch
from tasks.sources.http import Unavailable

RAW = Path("data/raw")

Text = Annotated[str, Field(min_length=1)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _without_secrets(source: str) -> str:
    """Refuse a password or a token: git and dvc.lock would keep it for good."""
    address = source.partition("://")[2]
    if "@" in address or "?" in address:
        raise PydanticCustomError(
            "secret",
            "it has a password or a query, which would be kept in git and dvc.lock; "
            "put a password into ~/.netrc",
        )
    return source


Source = Annotated[Text, AfterValidator(_without_secrets)]


class Download(Settings):
    """Section `download`: what to get, and from where.

    Attributes:
        sources: tried in this order; what one may be is said in `tasks.sources.fetch`,
            or with a `bundle` in `tasks.sources.convert`.
        timeout: seconds without an answer before a source is given up.
        sha256: file name -> hash of the uncompressed file.
        max_bytes: of the largest file, where it is larger than any of MNIST's.
        bundle: how the files are made of sources that have not the files themselves.
    """

    sources: Annotated[tuple[Source, ...], Field(strict=False, min_length=1)]
    timeout: Annotated[float, Field(gt=0, le=fetch.PATIENCE)]
    sha256: dict[idx.FileName, Hash] = Field(min_length=len(idx.FILES))
    max_bytes: Count | None = None
    bundle: convert.Conversion | None = None


def download(settings: Download, folder: Path, spec: DatasetSpec | None = None) -> str:
    """Put the four files into `folder`, all of them or none, and say who served them.

    Args:
        settings: what to get.
        folder: where to.
        spec: of the images; only a converted source is preprocessed to it.

    Returns:
        The source that served; `folder` itself if it had the files already.

    Raises:
        Unavailable: no source served, and one may do so later.
        BadInput: no source has the files, or `folder` holds something else.
    """
    _refuse_strangers(folder)
    if _present(settings, folder):
        print(f"{folder}: the four files are there already.")
        return str(folder)
    partial = folder.parent / ".partial"
    source, contents = _first(settings, spec, partial)
    for name, content in contents.items():
        files.write_bytes(folder / name, content)
    shutil.rmtree(partial, ignore_errors=True)
    print(printable(f"{folder}: {len(contents)} files from {source}."))
    return source


def _first(
    settings: Download, spec: DatasetSpec | None, partial: Path
) -> tuple[str, fetch.Files]:
    """Return the first source that serves, with the files; print why others did not."""
    failures: list[BadInput] = []
    for source in settings.sources:
        try:
            return source, _fetch(source, settings, spec, partial)
        except BadInput as failure:
            print(f"passed over: {failure}")
            failures.append(failure)
    later = any(isinstance(failure, Unavailable) for failure in failures)
    reasons = "; ".join(str(failure).rstrip(".") for failure in failures)
    advice = "try again later, or name" if later else "name"
    changed = any(Path(source).exists() for source in settings.sources)
    anew = ", or write it anew: `python -m flows.new_dataset FOLDER --force`"
    raise (Unavailable if later else BadInput)(
        f"no source has the data: {reasons}; {advice} another one under "
        f"`download.sources` of the dataset card{anew if changed else ''}."
    )


def _fetch(
    source: str, settings: Download, spec: DatasetSpec | None, partial: Path
) -> fetch.Files:
    """Return the four files of one source, taken as they are or made of a bundle."""
    if settings.bundle is None or spec is None:
        most = settings.max_bytes or 0
        return fetch.fetch_files(
            source, settings.sha256, settings.timeout, partial, most
        )
    contents, notes = convert.to_idx_files(
        source, settings.bundle, spec, settings.sha256
    )
    if notes:
        print(printable(f"{source}: {notes}."))
    return contents


def _present(settings: Download, folder: Path) -> bool:
    """Return whether every file is in `folder` with its own hash."""
    for name, wanted in settings.sha256.items():
        path = folder / name
        if not path.is_file():
            return False
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                return False
    return True


def _refuse_strangers(folder: Path) -> None:
    """Raise BadInput if `folder` has files that are not the step's own."""
    strangers = {path.name for path in folder.glob("*")} - set(idx.FILES)
    if strangers:
        names = ", ".join(sorted(strangers))
        raise BadInput(f"{folder} holds {names}, not of the data set; remove it.")


def main() -> None:
    """Download as the dataset card says."""
    cli.parser(__doc__).parse_args()
    card = dataset_card.selected()
    settings = load("download", Download, card)
    download(
        settings, RAW, load("images", DatasetSpec, card) if settings.bundle else None
    )


if __name__ == "__main__":
    cli.run(main)
