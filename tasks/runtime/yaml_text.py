"""Parse YAML the way DVC does, without the features that a parameter file never needs.

DVC 3.67 reads params.yaml with `ruamel.yaml.YAML(typ="safe")`, which follows YAML 1.2:
`012` is 12, `on` and `1:30` are text. The same parser here makes a step train with the
values that dvc.lock records. Refused are anchors, aliases and merge keys (small files
that grow), duplicate keys, deep nesting, integers of more than 64 bits, and every type
but text, numbers, booleans, null, lists and mappings.
"""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

MAX_DEPTH = 20  # the project's files nest three deep
MAX_REASON = 300  # characters

TAG = "tag:yaml.org,2002:"
TYPES = ("null", "bool", "int", "float", "str", "seq", "map")

# What a forged file makes the parser raise besides its own errors.
UNEXPECTED = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(RecursionError, TypeError, ValueError),
)


def parse(content: bytes) -> Any:
    """Return the value that the YAML document holds; None if it is empty.

    Raises:
        ValueError: the content is not UTF-8, not YAML, or uses a refused feature; the
            message is one short line that says where.
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
    """Refuse nesting and anchors before a value is built.

    The parser composes nested values by recursion, in C where it can.
    """
    depth = 0
    for event in YAML(typ="safe").parse(text):
        if getattr(event, "anchor", None) is not None:
            problem = "anchors and aliases are not supported; write the value out"
            raise ConstructorError(None, None, problem, event.start_mark)
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} deep"
            raise ConstructorError(None, None, problem, event.start_mark)


class _Constructor(SafeConstructor):
    """DVC's constructor, with the refusals that the module's docstring lists."""

    def construct_non_recursive_object(self, node: Node, tag: str | None = None) -> Any:
        """Build a value; if it is not one of its type, say where."""
        try:
            return super().construct_non_recursive_object(node, tag)
        except (ArithmeticError, LookupError, ValueError):
            problem = f"invalid {_type_name(node)}"
            raise ConstructorError(None, None, problem, node.start_mark) from None

    def construct_yaml_str(self, node: ScalarNode) -> str:
        """Return text; half of a surrogate pair is not text: UTF-8 can't encode it."""
        text = str(super().construct_yaml_str(node))
        text.encode()
        return text

    def construct_yaml_int(self, node: ScalarNode) -> int:
        """Return an integer of at most 64 bits; Python can't even print huge ones."""
        number = int(super().construct_yaml_int(node))
        if abs(number) >= 2**64:
            problem = "integer of more than 64 bits"
            raise ConstructorError(None, None, problem, node.start_mark)
        return number

    def flatten_mapping(self, node: MappingNode) -> None:
        """Refuse a merge key (`<<`), which DVC would resolve."""
        for key, _ in node.value:
            if key.tag == f"{TAG}merge":
                problem = "merge keys are not supported; write the values out"
                raise ConstructorError(None, None, problem, key.start_mark)
        super().flatten_mapping(node)

    def check_mapping_key(
        self, _: Node, key_node: Node, mapping: dict[Any, Any], key: Any, __: Any
    ) -> bool:
        """Refuse a key that is a list, or that the mapping has already."""
        if not isinstance(key_node, ScalarNode):
            problem = "a key must be a single value"
            raise ConstructorError(None, None, problem, key_node.start_mark)
        if key in mapping:
            problem = f"duplicate key `{key}`"
            raise ConstructorError(None, None, problem, key_node.start_mark)
        return True

    def construct_undefined(self, node: Node) -> None:
        """Refuse dates, sets, bytes, and tags of other applications."""
        problem = f"unsupported type `{_type_name(node)}`; quote it if it is text"
        raise ConstructorError(None, None, problem, node.start_mark)


_Constructor.yaml_constructors = {
    f"{TAG}{name}": getattr(_Constructor, f"construct_yaml_{name}") for name in TYPES
} | {None: _Constructor.construct_undefined}


def _type_name(node: Node) -> str:
    return str(node.tag).removeprefix(TAG)


def _reason(error: Exception) -> str:
    """Return the error's problem and its line and column, on one short line."""
    where = ""
    if isinstance(error, MarkedYAMLError) and error.problem:
        reason = str(error.problem)
        if mark := error.problem_mark or error.context_mark:
            where = f", line {mark.line + 1}, column {mark.column + 1}"
    else:
        reason = str(error).replace('in "<unicode string>"', "in the file")
    return " ".join(reason.split()).rstrip(".")[:MAX_REASON] + where
