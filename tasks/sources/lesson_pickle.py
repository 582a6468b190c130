"""Read the lesson's `mnist.pkl.gz`, a pickle of Python 2, without running any of it.

It holds ((images, labels) of training, of validation, of test), 50,000, 10,000 and
10,000 of them: images as float32 pixel/256 in rows of 784, labels as int64.

A pickle is a program. It is first scanned as a list of instructions, of which only
those that describe arrays are allowed. The unpickler that then runs knows five names,
each replaced by a class or function of this module. The pickle never calls NumPy, whose
dtypes corrupt memory when given a forged state. The arrays are made afterwards, from
checked records.
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

# Unzipped, 70,000 images of 784 float32 and their labels have 220 MB.
MAX_BYTES = 250_000_000
# The lesson's pickle needs 200 to 300. Also bounds the memory of the pickle's memo.
MAX_INSTRUCTIONS = 1000
# Those that `pickle` writes for tuples of arrays in protocols 1 and 2. Left out on
# purpose: lists and dicts (arrays of objects, forged attributes), INST, OBJ and NEWOBJ
# (classes), EXT (a registry), PERSID (a caller's function), STACK_GLOBAL (a computed
# name), and the texts of protocol 0, which would make MNIST four times as large.
INSTRUCTIONS = frozenset(
    "PROTO STOP MARK TUPLE TUPLE1 TUPLE2 TUPLE3 "  # noqa: SIM905  shorter than a list
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1 "
    "SHORT_BINSTRING BINSTRING BINUNICODE BINPUT LONG_BINPUT BINGET LONG_BINGET "
    "GLOBAL REDUCE BUILD".split()
)


class _Record:
    """Replaces an array or a dtype; records the arguments and the state it is given.

    An array's state is (version, shape, dtype, by columns, bytes). A dtype's first
    argument is its code, and the second item of its state is the byte order.
    """

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def _encode(text: str, encoding: str) -> str:
    """Replace `_codecs.encode`, by which Python 3 writes bytes for Python 2.

    The text is encoded only when its array is made, so a pickle can't multiply it.
    """
    if encoding != "latin1":
        raise ValueError("it has bytes in another encoding than latin1")
    return text


GLOBALS = {
    "numpy.core.multiarray _reconstruct": _Record,
    "numpy._core.multiarray _reconstruct": _Record,  # since NumPy 2
    "numpy ndarray": _Record,
    "numpy dtype": _Record,
    "_codecs encode": _encode,
}


def read(
    content: bytes, origin: str, shape: tuple[int, int] = (28, 28)
) -> dict[FileName, Bytes]:
    """Return the arrays of the four IDX files that the pickle was made from.

    Args:
        content: the unzipped pickle, of at most `MAX_BYTES`.
        origin: of the pickle, for errors.
        shape: rows and columns of an image.

    Returns:
        uint8: images (N, *shape) of 0 to 255, labels (N,). The training files hold the
        pickle's training set, followed by its validation set.

    Raises:
        BadInput: the pickle does not consist of the lesson's arrays.
    """
    try:
        _scan(content)
        file = io.BytesIO(content)
        tree = _Unpickler(file, fix_imports=False, encoding="latin1").load()
        train, valid, test = (_split(pair, shape) for pair in _items(tree, 3))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  a forged pickle can raise any of them
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise BadInput(
            f"{origin} is not the lesson's mnist.pkl.gz ({reason or repr(error)}). "
            "Nothing in it was run; use another source."
        ) from None
    return {
        "train-images-idx3-ubyte": np.concatenate([train[0], valid[0]]),
        "train-labels-idx1-ubyte": np.concatenate([train[1], valid[1]]),
        "t10k-images-idx3-ubyte": test[0],
        "t10k-labels-idx1-ubyte": test[1],
    }


class _Unpickler(pickle.Unpickler):
    """Resolves the names in `GLOBALS` and no others."""

    def find_class(self, module: str, name: str) -> Any:
        if replacement := GLOBALS.get(f"{module} {name}"):
            return replacement
        raise ValueError(f"it asks for {module}.{name}")


def _scan(content: bytes) -> None:
    """Raise ValueError unless every instruction is one that arrays need.

    This also finds lengths beyond the end, before the unpickler allocates them.
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
            raise ValueError(f"it stores an object under the number {argument}")


def _items(value: object, length: int) -> tuple[Any, ...]:
    """Return `value`, which must be a tuple of `length` items."""
    if not isinstance(value, tuple) or len(value) != length:
        raise ValueError(f"it has a {type(value).__name__}, not a tuple of {length}")
    return value


def _split(pair: object, shape: tuple[int, int]) -> tuple[Bytes, Bytes]:
    """Return images (N, *shape) and labels (N,), from float32 (N, D) and int64 (N,)."""
    rows, labels = _items(pair, 2)
    images = _as_bytes(_values(rows, "f4"), 256)
    labels = _as_bytes(_values(labels, "i8"), 1)
    if not labels.size or images.shape != (*labels.shape, math.prod(shape)):
        raise ValueError(f"images are {images.shape}, labels {labels.shape}")
    return images.reshape(-1, *shape), labels


def _values(array: object, code: str) -> NDArray[Any]:
    """Return the recorded array, which must have the dtype `code`; read-only."""
    if not isinstance(array, _Record):
        raise TypeError(f"it has a {type(array).__name__}, not an array")
    _, shape, dtype, by_columns, text = _items(array.state, 5)
    if not isinstance(dtype, _Record) or dtype.arguments[:1] != (code,):
        raise ValueError(f"it has an array that is not of {code}")
    _, order, *_ = _items(dtype.state, 8)
    if order not in ("<", ">") or by_columns or not isinstance(text, str):
        raise ValueError("it has an array that is not plain rows of numbers")
    return np.frombuffer(text.encode("latin1"), np.dtype(order + code)).reshape(shape)


def _as_bytes(values: NDArray[Any], scale: int) -> Bytes:
    """Return scale * values, which must be whole numbers of 0 to 255."""
    # Other values are cast to some byte, which then differs from them.
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * values.dtype.type(scale)
        result: Bytes = scaled.astype(np.uint8)
    wrong = result != scaled
    if wrong.any():
        raise ValueError(
            f"{values[wrong][0]} times {scale} is not a whole number from 0 to 255"
        )
    return result
