"""Parse YAML as DVC does, without features that a parameter file never needs.

DVC 3.67 reads params.yaml with `ruamel.yaml.YAML(typ="safe")`, which follows YAML 1.2:
`012` is 12, `on` and `1:30` are text. With the same parser a step uses the values that
dvc.lock records. Anchors, aliases and merge keys (small files that expand), duplicate
keys, deep nesting, integers of more than 64 bits, and all types but text, numbers,
booleans, null, lists and mappings are refused.
"""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import Node

MAX_DEPTH = 20  # the project's files have a depth of three
MAX_REASON = 300  # characters
TAG = "tag:yaml.org,2002:"
TYPES = ("null", "bool", "int", "float", "str", "seq", "map")

# For some invalid files the parser raises these instead of its own errors.
UNEXPECTED = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)


def parse(content: bytes) -> Any:
    """Return the value of a YAML document; None if it is empty.

    For invalid content raises ValueError, with the position, on one short line.
    """
    try:
        text = content.decode()
        _check_events(text)
        yaml = YAML(typ="safe")
        yaml.Constructor = _Constructor
        return yaml.load(text)
    except (YAMLError, *UNEXPECTED) as error:
        raise ValueError(_reason(error)) from None


def _check_events(text: str) -> None:
    """Refuse aliases, merge keys and deep nesting before any value is built."""
    depth = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent)
        depth -= isinstance(event, CollectionEndEvent)
        if getattr(event, "anchor", None) is not None:
            raise _error("anchors and aliases are not supported", event.start_mark)
        if getattr(event, "value", None) == "<<":
            raise _error("merge keys are not supported", event.start_mark)
        if depth > MAX_DEPTH:
            raise _error(f"nested more than {MAX_DEPTH} deep", event.start_mark)


class _Constructor(SafeConstructor):
    """DVC's constructor, restricted to `TYPES` and to integers of 64 bits."""

    def construct_non_recursive_object(self, node: Node, tag: str | None = None) -> Any:
        name = str(node.tag).removeprefix(TAG)
        if name not in TYPES:
            problem = f"unsupported type `{name}`; quote it if it is text"
            raise _error(problem, node.start_mark)
        try:
            value = super().construct_non_recursive_object(node, tag)
            if isinstance(value, str):
                value.encode()  # half of a surrogate pair is not text
        except (ArithmeticError, LookupError, ValueError):
            raise _error(f"invalid {name}", node.start_mark) from None
        if isinstance(value, int) and abs(value) >= 2**64:
            raise _error("integer of more than 64 bits", node.start_mark)
        return value


def _error(problem: str, mark: Any) -> ConstructorError:
    return ConstructorError(None, None, problem, mark)


def _reason(error: Exception) -> str:
    """Return the problem and its line and column, on one short line."""
    where = ""
    if isinstance(error, MarkedYAMLError) and error.problem:
        reason = str(error.problem)
        if mark := error.problem_mark or error.context_mark:
            where = f", line {mark.line + 1}, column {mark.column + 1}"
    else:
        reason = str(error).replace('in "<unicode string>"', "in the file")
    return " ".join(reason.split()).rstrip(".")[:MAX_REASON] + where
