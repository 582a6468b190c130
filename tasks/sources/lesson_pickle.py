"""The lesson's `mnist.pkl.gz`: a pickle of Python 2, read without running any of it.

It holds ((images, labels) of training, of validation, of test), 50,000, 10,000 and
10,000 of them: images as float32 pixel/256 in rows of 784, labels as int64.

A pickle is a program. Here it is first read as a list of instructions, of which only
those that describe arrays may occur. What then runs can name nothing but the stand-ins
below, which record what they are given: NumPy itself is not called by the pickle, since
its dtypes, when given a forged state, corrupt memory. The arrays are made afterwards,
from checked records.
"""

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.rawdata.idx import FileName
from tasks.runtime.params import BadInput

Bytes = NDArray[np.uint8]

# Of the pickle, unzipped: 70,000 images of 784 float32 take 220 MB, with their labels.
MAX_BYTES = 250_000_000
# The lesson's needs 200 to 300. Bounds what a pickle can pile up, and its memo with it.
MAX_INSTRUCTIONS = 1000
# What `pickle` writes for tuples of arrays in protocols 1 and 2. Missing on purpose:
# lists and dicts (arrays of objects, forged attributes), INST, OBJ and NEWOBJ
# (classes), EXT (a registry), PERSID (a caller's function), STACK_GLOBAL (a name built
# on the fly), and protocol 0's texts, which would make MNIST four times as large.
INSTRUCTIONS = frozenset(
    "PROTO STOP MARK TUPLE TUPLE1 TUPLE2 TUPLE3 "  # noqa: SIM905  one a line: a page
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1 "
    "SHORT_BINSTRING BINSTRING BINUNICODE BINPUT LONG_BINPUT BINGET LONG_BINGET "
    "GLOBAL REDUCE BUILD".split()
)


class _Record:
    """Stands in for what NumPy would make: keeps the arguments and the state given."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Array(_Record):
    """Stands in for an array: its state is version, shape, dtype, order and bytes."""


class _Dtype(_Record):
    """Stands in for a dtype: its first argument is a code, its state has the order."""


def _latin1(text: str, encoding: str) -> str:
    """Stand in for the `_codecs.encode` by which Python 3 writes bytes for Python 2.

    The text is kept as it is, so that a pickle can't multiply it, and encoded once,
    when its array is made.
    """
    if encoding != "latin1":
        # It may be of any type, and its text of any length: a tuple of itself, twice,
        # a hundred times over has one of 2^100 letters.
        raise ValueError(f"bytes are encoded as '{_brief(encoding)}', not as latin1")
    return text


def _brief(value: object) -> str:
    """Return what a pickle holds in a few letters."""
    return value[:40] if isinstance(value, str) else type(value).__name__


GLOBALS = {
    "numpy.core.multiarray _reconstruct": _Array,
    "numpy._core.multiarray _reconstruct": _Array,  # since NumPy 2
    "numpy ndarray": _Array,
    "numpy dtype": _Dtype,
    "_codecs encode": _latin1,
}


def read(
    content: bytes, origin: str, shape: tuple[int, int] = (28, 28)
) -> dict[FileName, Bytes]:
    """Return the arrays of the four IDX files that the pickle was made from.

    Args:
        content: the pickle, unzipped; the caller bounds its size (by `MAX_BYTES`).
        origin: where it came from, for errors.
        shape: rows and columns of an image, whose product is the length of a row.

    Returns:
        uint8: images (N, *shape) of 0 to 255, labels (N,); training holds the pickle's
        training and validation, one after the other.

    Raises:
        BadInput: it holds anything else than the lesson's arrays, or a pixel that is no
            whole number of 256ths.
    """
    try:
        _scan(content)
        tree = _Unpickler(
            io.BytesIO(content), fix_imports=False, encoding="latin1"
        ).load()
        train, valid, test = (_split(pair, shape) for pair in _items(tree, 3))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  a forged pickle can provoke any of them
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise BadInput(
            f"{origin} is not the lesson's mnist.pkl.gz ({reason or repr(error)}); "
            "nothing that it asks for was run; take another source."
        ) from None
    return {
        "train-images-idx3-ubyte": np.concatenate([train[0], valid[0]]),
        "train-labels-idx1-ubyte": np.concatenate([train[1], valid[1]]),
        "t10k-images-idx3-ubyte": test[0],
        "t10k-labels-idx1-ubyte": test[1],
    }


class _Unpickler(pickle.Unpickler):
    """Knows five names, and answers each with its stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        if stand_in := GLOBALS.get(f"{module} {name}"):
            return stand_in
        raise ValueError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: object) -> Any:
        raise ValueError(f"it refers to {pid!r}, outside of it")


def _scan(content: bytes) -> None:
    """Raise ValueError unless every instruction is one that arrays need.

    Reading the list also finds a length that goes beyond the end, before the pickle
    machine allocates it.
    """
    argument: Any
    for count, (code, argument, _) in enumerate(pickletools.genops(content), start=1):
        if count > MAX_INSTRUCTIONS:
            raise ValueError(f"it has more than {MAX_INSTRUCTIONS} instructions")
        if code.name not in INSTRUCTIONS:
            raise ValueError(f"it has the instruction {code.name}")
        if code.name == "GLOBAL" and argument not in GLOBALS:
            raise ValueError(f"it asks for {str(argument).replace(' ', '.')}")
        # The memo is a table as long as its highest number.
        if code.name == "LONG_BINPUT" and not 0 <= argument <= MAX_INSTRUCTIONS:
            raise ValueError(f"it numbers an object {argument}")


def _items(value: object, length: int) -> tuple[Any, ...]:
    """Return `value`, which must be a tuple of `length` items."""
    if not isinstance(value, tuple) or len(value) != length:
        raise ValueError(f"it has a {type(value).__name__}, not a tuple of {length}")
    return value


def _split(pair: object, shape: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """Return images (N, *shape) and labels (N,), from float32 (N, D) and int64 (N,)."""
    rows, classes = _items(pair, 2)
    images = _whole(_values(rows, "f4"), 256)
    labels = _whole(_values(classes, "i8"), 1)
    if images.shape != (*labels.shape, math.prod(shape)):
        raise ValueError(f"images are {images.shape}, labels {labels.shape}")
    if not labels.size:
        raise ValueError("a part of it is empty")
    return images.reshape(-1, *shape), labels


def _values(array: object, code: str) -> NDArray[Any]:
    """Return the array that was recorded, which must be of dtype `code`; read-only."""
    if not isinstance(array, _Array):
        raise TypeError(f"it has a {type(array).__name__}, not an array")
    _, shape, dtype, by_columns, text = _items(array.state, 5)
    if not isinstance(dtype, _Dtype) or dtype.arguments[:1] != (code,):
        raise ValueError(f"it has an array of {_name(dtype)}, not of {code}")
    _, order, *_ = _items(dtype.state, 8)
    if order not in ("<", ">") or by_columns or not isinstance(text, str):
        raise ValueError("it has an array that is not plain rows of numbers")
    return np.frombuffer(text.encode("latin1"), np.dtype(order + code)).reshape(shape)


def _name(dtype: object) -> str:
    return _brief(dtype.arguments[0]) if isinstance(dtype, _Dtype) else "no dtype"


def _whole(values: NDArray[Any], scale: int) -> Bytes:
    """Return scale * values as bytes; raise ValueError unless each is one exactly."""
    # A cast of what is no byte gives some byte, to which it is then unequal.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * values.dtype.type(scale)
        whole: Bytes = scaled.astype(np.uint8)
    wrong = whole != scaled
    if wrong.any():
        raise ValueError(f"{values[wrong][0]} times {scale} is not a whole 0 to 255")
    return whole
