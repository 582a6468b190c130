"""Random DVC projects, and random edits of them, for Hypothesis.

A project is written twice, for two engines to run. A stage's command depends only on
its dependencies, and writes its name into the file `$LOG`.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

PARAMS = ("p", "q")
SOURCES = ("a", "b", "tracked")
ITEMS = (["x", "y"], ["x"], ["x", "z"])
OUTPUTS = ("file", "file", "folder", "folder", "uncached", "metric", "persist")


@dataclass(frozen=True)
class Step:
    """One entry of dvc.yaml, which makes the files in `out/NAME`.

    Attributes:
        name: of the entry.
        shape: `plain`, `list` of commands, `foreach` or `matrix`.
        reads: the steps whose outputs it depends on.
        whole: it depends on their folders, rather than on one file in each.
        sources: the source files that it depends on.
        params: the parameters that it depends on.
        output: one of OUTPUTS.
        lossy: the output is the same whatever the dependencies are.
        location: its dvc.yaml is in the root, in `sub`, or it has a `wdir`.
        always: it has `always_changed`.
    """

    name: str
    shape: str
    reads: tuple[str, ...]
    whole: bool
    sources: tuple[str, ...]
    params: tuple[str, ...]
    output: str
    lossy: bool
    location: str
    always: bool

    @property
    def grouped(self) -> bool:
        return self.shape in {"foreach", "matrix"}

    @property
    def folder(self) -> str:
        return f"out/{self.name}"

    @property
    def sample(self) -> str:
        """One of its output files."""
        if self.output == "metric":
            name = "x.json" if self.grouped else "one.json"
        else:
            name = "x.txt" if self.grouped else "one.txt"
        if self.output == "folder" and self.grouped:
            name = "x/one.txt"
        return f"{self.folder}/{name}"


@dataclass
class State:
    """The state of a project, which edits change."""

    steps: tuple[Step, ...]
    params: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARAMS, 0))
    sources: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, 0))
    versions: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    frozen: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    items: int = 0

    def edit(  # noqa: C901  # a list of cases
        self, what: str, name: str, roots: tuple[Path, ...], control: Path
    ) -> str:
        """Make one edit; return it as text."""
        (step,) = [step for step in self.steps if step.name == name]
        for root in roots:
            self._disturb(what, step, root)
        match what:
            case "param":
                key = PARAMS[int(name[1:]) % 2]
                self.params[key] = 1 - self.params[key]
            case "source":
                key = SOURCES[int(name[1:]) % 3]
                self.sources[key] = 1 - self.sources[key]
            case "command":
                self.versions ^= {name}
            case "stage":
                self.removed ^= {name}
            case "frozen":
                self.frozen ^= {name}
            case "fail":
                self.failing ^= {name}
                (control / name).unlink(missing_ok=True)
                if name in self.failing:
                    (control / name).touch()
            case "items":
                self.items = (self.items + 1) % 3
        for root in roots:
            self.write(root)
        return f"{what} {name}"

    def _disturb(self, what: str, step: Step, root: Path) -> None:
        sample = root / step.sample
        match what:
            case "delete output":
                sample.unlink(missing_ok=True)
            case "delete outputs":
                shutil.rmtree(root / "out", ignore_errors=True)
                (root / "out").mkdir()
            case "corrupt output":
                if sample.exists():
                    sample.write_text("{}\n")
            case "add to folder":
                with suppress(FileNotFoundError):
                    sample.with_name("new.txt").write_text("new\n")
            case "delete dvc.lock":
                (root / "dvc.lock").unlink(missing_ok=True)
            case "empty cache":
                shutil.rmtree(root / ".dvc/cache/files", ignore_errors=True)
            case "delete cache":
                shutil.rmtree(root / ".dvc/cache", ignore_errors=True)
            case "delete source":
                (root / "a.txt").unlink(missing_ok=True)

    def write(self, root: Path) -> None:
        """Write the project's files, only those that differ."""
        put(
            root / "params.yaml",
            yaml.safe_dump(self.params | {"items": ITEMS[self.items]}),
        )
        for name, value in self.sources.items():
            put(root / f"{name}.txt", f"{name} {value}\n")
        for location, path in (("root", "dvc.yaml"), ("sub", "sub/dvc.yaml")):
            stages = {
                step.name: self._entry(step)
                for step in self.steps
                if (step.location == "sub") == (location == "sub")
                and step.name not in self.removed
            }
            put(root / path, yaml.safe_dump({"stages": stages}, sort_keys=False))

    def _entry(self, step: Step) -> dict[str, Any]:  # noqa: C901, PLR0912, PLR0915  # a list of cases
        up = "" if step.location == "root" else "../"
        item = {"foreach": "${item}", "matrix": "${item.item}"}.get(step.shape, "one")
        label = f"{step.name}@{item}" if step.grouped else step.name
        suffix = "json" if step.output == "metric" else "txt"
        out = f"{up}{step.folder}/{item}.{suffix}"
        whole = f"{up}{step.folder}" + (f"/{item}" if step.grouped else "")
        deps = [f"{up}{source}.txt" for source in step.sources]
        for read in step.reads:
            (other,) = [other for other in self.steps if other.name == read]
            deps.append(up + (other.folder if step.whole else other.sample))
        cat = " ".join(
            f"$(find {dep} -type f ! -name .gitignore | LC_ALL=C sort)" for dep in deps
        )
        # Outputs of two stages are never equal. Otherwise one stage could restore the
        # output of another from the cache, or not, depending on the clock.
        version = step.name in self.versions
        text = f"echo {step.name} {version} {item}; cat /dev/null {cat}"
        if step.params:
            text += f"; grep '^[{''.join(step.params)}]:' {up}params.yaml"
        text = f"{{ {text}; }}" + (" | head -n 1" if step.lossy else "")
        begin = f'echo {label} >> "$LOG"; test ! -e "$CONTROL/{step.name}"'
        match step.output:
            case "folder":
                end = f"mkdir -p {whole}; {text} > {whole}/one.txt; "
                end += f"echo two > {whole}/two.txt"
            case "metric":
                end = f'echo "{{\\"sum\\": $({text} | cksum | cut -d" " -f1)}}" > {out}'
            case "persist":
                end = f"{text} >> {out}"
            case _:
                end = f"{text} > {out}"
        make = f"mkdir -p {up}{step.folder} && {end}"
        cmd = [begin, make] if step.shape == "list" else f"{begin} && {make}"
        entry: dict[str, Any] = {"cmd": cmd}
        if step.location == "wdir":
            entry["wdir"] = "work"
        if deps:
            entry["deps"] = deps
        if step.params:
            entry["params"] = [{f"{up}params.yaml": list(step.params)}]
        match step.output:
            case "folder":
                entry["outs"] = [whole]
            case "uncached":
                entry["outs"] = [{out: {"cache": False}}]
            case "metric":
                entry["metrics"] = [{out: {"cache": False}}]
            case "persist":
                entry["outs"] = [{out: {"persist": True}}]
            case _:
                entry["outs"] = [out]
        if step.always:
            entry["always_changed"] = True
        if step.name in self.frozen:
            entry["frozen"] = True
        items = ITEMS[self.items]
        if step.shape == "foreach":
            return {
                "foreach": items if step.location == "sub" else "${items}",
                "do": entry,
            }
        if step.shape == "matrix":
            return {"matrix": {"item": items}, **entry}
        return entry


def put(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


EDITS = (
    *("param", "source", "command", "delete output", "corrupt output") * 2,
    *("stage", "frozen", "fail", "items", "delete outputs", "add to folder"),
    *("delete dvc.lock", "empty cache", "delete cache", "delete source", "nothing"),
)
# `targets`: the run has targets.
OPTIONS: tuple[dict[str, bool], ...] = (
    *({},) * 6,
    {"force": True},
    {"force_downstream": True},
    {"no_commit": True},
    {"no_run_cache": True},
    {"allow_missing": True},
    {"keep_going": True},
    {"ignore_errors": True},
    {"targets": True},
    {"targets": True, "single_item": True},
    {"targets": True, "single_item": True, "force": True},
    {"targets": True, "single_item": True, "allow_missing": True},
    {"targets": True, "downstream": True},
    {"targets": True, "pipeline": True},
    {"targets": True, "glob": True},
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[Step, ...]:
    """Draw the stages of a project."""
    made: list[Step] = []
    for number in range(draw(st.integers(2, 6))):
        names = [step.name for step in made]
        reads = (
            draw(st.lists(st.sampled_from(names), unique=True, max_size=2))
            if (names)
            else []
        )
        made.append(
            Step(
                name=f"s{number}",
                shape=draw(
                    st.sampled_from(["plain", "plain", "list", "foreach", "matrix"])
                ),
                reads=tuple(reads),
                whole=draw(st.booleans()),
                sources=tuple(
                    draw(
                        st.lists(
                            st.sampled_from(SOURCES),
                            unique=True,
                            max_size=2,
                            min_size=0 if reads else 1,
                        )
                    )
                ),
                params=tuple(
                    draw(st.lists(st.sampled_from(PARAMS), unique=True, max_size=1))
                ),
                output=draw(st.sampled_from(OUTPUTS)),
                lossy=draw(st.integers(0, 3)) == 0,
                location=draw(st.sampled_from(["root", "root", "root", "sub", "wdir"])),
                always=draw(st.integers(0, 11)) == 0,
            )
        )
    return tuple(made)


@st.composite
def rounds(
    draw: st.DrawFn, names: list[str], most: int
) -> list[tuple[list[tuple[str, str]], dict[str, bool], list[str]]]:
    """Draw up to `most` rounds of edits, with options and targets of the next run."""
    edit = st.tuples(st.sampled_from(EDITS), st.sampled_from(names))
    return draw(
        st.lists(
            st.tuples(
                st.lists(edit, min_size=1, max_size=2),
                st.sampled_from(OPTIONS),
                st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True),
            ),
            min_size=2,
            max_size=most,
        )
    )


def contents(root: Path, *, cache: bool = True) -> dict[str, Any]:
    """Return the content of each file, except DVC's and git's internal ones."""
    found: dict[str, Any] = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        relative = here.relative_to(root).as_posix()
        if relative == ".":
            folders.remove(".git")
        if relative == ".dvc":
            folders[:] = ["cache"] if cache and "cache" in folders else []
        for name in files:
            path = here / name
            text = path.read_bytes()
            entry: Any = text
            if name == "dvc.lock":
                entry = yaml.safe_load(text)
            elif name == ".gitignore":
                entry = sorted(text.splitlines())
            found[path.relative_to(root).as_posix()] = entry
    return found
