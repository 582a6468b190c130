import copyreg
import io
import os
import pickle
import re
import struct
import sys
import warnings

import numpy as np
import pytest
from box import in_a_box
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.runtime.params import BadInput
from tasks.sources import lesson_pickle

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TESTS = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def lesson_tree(digits, valid=300):
    """Return the lesson's ((images, labels), ...): float32 pixel/256, int64."""
    images, labels = (digits[name] for name in NAMES)
    parts = [
        (images[:-valid], labels[:-valid]),
        (images[-valid:], labels[-valid:]),
        tuple(digits[name] for name in TESTS),
    ]
    return tuple(
        (i.reshape(len(i), -1) / np.float32(256), k.astype(np.int64)) for i, k in parts
    )


def array_of_python2(values, code=None):
    """Return an array as Python 2's cPickle writes it in protocol 2."""
    shape = b"".join(b"J" + struct.pack("<i", n) for n in values.shape)
    code = (code or values.dtype.str[1:]).encode()
    state = b"(K\x03U\x01%sNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    dtype = b"cnumpy\ndtype\nU\x02%sK\0K\x01\x87R" % code
    order = b">" if values.dtype.byteorder == ">" else b"<"
    content = values.tobytes()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
        + (b"(K\x01(" + shape + b"t" + dtype + state % order + b"\x89")
        + (b"T" + struct.pack("<i", len(content)) + content + b"tb")
    )


def tree_of_python2(tree, code=None):
    pairs = (
        array_of_python2(images, code) + array_of_python2(labels) + b"\x86"
        for images, labels in tree
    )
    return b"\x80\x02" + b"".join(pairs) + b"\x87."


def old_names(content):
    """Replace NumPy 2's module names by those of NumPy 1."""
    assert b"numpy._core.multiarray" in content
    return content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


WRITERS = {
    "python 2": tree_of_python2,
    "python 3, protocol 2": lambda tree: pickle.dumps(tree, protocol=2),
    "python 3, protocol 1": lambda tree: pickle.dumps(tree, protocol=1),
    "numpy 1's names": lambda tree: old_names(pickle.dumps(tree, protocol=2)),
    "big-endian": lambda tree: tree_of_python2(
        [(images.astype(">f4"), labels.astype(">i8")) for images, labels in tree]
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_lessons_pickle_gives_the_original_files(digits, writer):
    arrays = lesson_pickle.read(WRITERS[writer](lesson_tree(digits)), writer)

    assert list(arrays) == [*NAMES, *TESTS]
    for name, values in digits.items():
        np.testing.assert_array_equal(arrays[name], values, strict=True)


def test_the_handwritten_pickle_is_one_that_numpy_reads(digits):
    tree = lesson_tree(digits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy.core has moved
        again = pickle.loads(tree_of_python2(tree), encoding="latin1")
    for (images, labels), (expected_images, expected_labels) in zip(
        again, tree, strict=True
    ):
        np.testing.assert_array_equal(images, expected_images, strict=True)
        np.testing.assert_array_equal(labels, expected_labels, strict=True)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


# Each creates a file named `ran` in an ordinary unpickler.
RUN = text("touch ran")
# The first state is a method, which is then called with the second.
STATES = b"}" + text("__setstate__") + b"cposix\nsystem\nsb" + RUN + b"b."
GADGETS = {
    "GLOBAL, REDUCE": (b"cposix\nsystem\n" + RUN + b"\x85R.", "asks for posix.system"),
    "renamed GLOBAL": (
        b"c__builtin__\neval\n" + text("__import__('os').mkdir('ran')") + b"\x85R.",
        "asks for __builtin__.eval",
    ),
    "STACK_GLOBAL": (
        b"\x80\x04" + text("posix") + text("system") + b"\x93" + RUN + b"\x85R.",
        "instruction STACK_GLOBAL",
    ),
    "INST": (b"(" + RUN + b"iposix\nsystem\n.", "instruction INST"),
    "OBJ": (b"(cposix\nsystem\n" + RUN + b"o.", "asks for posix.system"),
    "EXT1": (b"\x80\x02\x82\xf0" + RUN + b"\x85R.", "instruction EXT1"),
    "EXT2": (b"\x80\x02\x83\xf1\x01" + RUN + b"\x85R.", "instruction EXT2"),
    "EXT4": (b"\x80\x02\x84\xf2\0\1\0" + RUN + b"\x85R.", "instruction EXT4"),
    "NEWOBJ, BUILD": (
        b"\x80\x02cargparse\nNamespace\n)\x81" + STATES,
        "asks for argparse.Namespace",
    ),
    "NEWOBJ_EX, BUILD": (
        b"\x80\x04cargparse\nNamespace\n)}\x92" + STATES,
        "asks for argparse.Namespace",
    ),
    "NumPy's own exec": (
        b"cnumpy.testing._private.utils\nrunstring\n"
        + (text("__import__('os').mkdir('ran')") + b"}\x86R."),
        "asks for numpy.testing._private.utils.runstring",
    ),
}


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """Return the file that a gadget creates when it runs."""
    monkeypatch.chdir(tmp_path)
    # These codes need one, two and four bytes.
    codes = {"posix": 0xF0, "os": 0x1F1, "nt": 0x100F2}
    monkeypatch.setitem(sys.modules, "nt", os)
    for module, code in codes.items():
        copyreg.add_extension(module, "system", code)
    yield tmp_path / "ran"
    for module, code in codes.items():
        copyreg.remove_extension(module, "system", code)
    copyreg.clear_extension_cache()


@pytest.mark.parametrize("name", GADGETS)
def test_a_gadget_is_refused_before_anything_runs(marker, name):
    gadget, reason = GADGETS[name]

    with pytest.raises(BadInput, match=f"^evil is not .*{reason}.*Nothing .* was run"):
        lesson_pickle.read(gadget, "evil")
    assert not marker.exists()


@pytest.mark.parametrize("name", GADGETS)
def test_the_unpickler_refuses_a_gadget_without_the_scan(marker, name):
    gadget, _ = GADGETS[name]

    with pytest.raises(ValueError, match="it asks for"):
        lesson_pickle._Unpickler(io.BytesIO(gadget), fix_imports=False).load()
    assert not marker.exists()


@pytest.mark.parametrize("name", GADGETS)
def test_an_ordinary_unpickler_runs_the_gadgets(marker, name):
    gadget, _ = GADGETS[name]

    pickle.loads(gadget)

    assert marker.exists()


FORGED = {
    "a class made": (b"\x80\x02cnumpy\nndarray\nK\0\x85\x81.", "instruction NEWOBJ"),
    "an attribute set": (
        b"\x80\x02cnumpy\ndtype\n}" + text("a") + b"K\x01sb.",
        "instruction EMPTY_DICT",
    ),
    "a persistent id": (b"Pid\n.", "instruction PERSID"),
    "a persistent object": (b"K\x01Q.", "instruction BINPERSID"),
    "a dotted name": (b"cnumpy\nndarray.dump\n.", "asks for numpy.ndarray.dump"),
    "a class given a state": (b"cnumpy\ndtype\nK\x01b.", "missing 1 required"),
    "a function given a state": (b"c_codecs\nencode\nNK\x01\x86b.", "state is not"),
    "another codec": (
        b"c_codecs\nencode\n" + text("x") + text("rot13") + b"\x86R.",
        "another encoding than latin1",
    ),
    "a call of an array": (b"cnumpy\nndarray\n)R)R.", "instruction EMPTY_TUPLE"),
    "objects": (
        pickle.dumps(np.array([None, 1], dtype=object), protocol=2),
        "instruction EMPTY_LIST",
    ),
    "an empty stack": (b".", "pop from empty list|stack underflow"),
    "a number of 2^31 bytes": (b"\x8b\xff\xff\xff\x7f.", "not enough data in stream"),
    "a text of 2^63": (b"\x80\x04\x8d" + bytes(7) + b"\x80.", "byte count > sys.max"),
    "a text of 2^62": (b"\x80\x04\x8d" + bytes(7) + b"\x40.", "expected 4611686018"),
    "bytes of 2^62": (b"\x80\x04\x8e" + bytes(7) + b"\x40.", "expected 4611686018"),
    "an array of 2^62": (b"\x80\5\x96" + bytes(7) + b"\x40.", "expected 4611686018"),
    "a frame of 2^62": (b"\x80\x04\x95" + bytes(7) + b"\x40.", "instruction FRAME"),
    "a buffer from elsewhere": (b"\x80\5\x97.", "instruction NEXT_BUFFER"),
    "a buffer to read": (b"\x80\5K\1\x98.", "instruction READONLY_BUFFER"),
    "a memo by itself": (b"\x80\4K\1\x94.", "instruction MEMOIZE"),
    "the same again": (b"K\x012.", "instruction DUP"),
    "a set": (b"\x80\4\x8f.", "instruction EMPTY_SET"),
    "a list": (b"].", "instruction EMPTY_LIST"),
    "a text of protocol 0": (b"S'a'\n.", "instruction STRING"),
    "a number of 9999 digits": (b"I" + b"9" * 9999 + b"\n.", "Exceeds the limit"),
    "a name of another screen": (b"cos\n\x1b[2J\n.", r"asks for os.\\x1b\[2J"),
    "a memo that is not there": (b"h\7.", "Memo value not found at index 7"),
    "nothing": (b"", "exhausted before seeing STOP"),
    "no pickle": (b"<!DOCTYPE html>", "opcode b'<' unknown"),
    "a text that goes on past the end": (b"T\xff\xff\xff\x7f" + b"a", "expected 2147"),
    "a memo of 2^32": (
        b"Nr\xff\xff\xff\xff.",
        "stores an object under the number 4294967295",
    ),
    "too much of it": (b"N" * 2000 + b".", "more than 1000 instructions"),
    "a single array": (array_of_python2(np.zeros(3)) + b".", "not a tuple of 3"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_pickle_is_refused_with_its_reason(name):
    content, reason = FORGED[name]

    with pytest.raises(BadInput, match=f"^evil is not .*({reason}).*use another"):
        lesson_pickle.read(content, "evil")


# Nested tuples, each twice the same: 180 instructions, and 2^60 numbers if printed.
TWICE = b"K\x01" + b"q\0h\0\x86" * 60
STATE = b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"


def array(shape, code, content, state=STATE):
    """Return an array as Python 2 writes it, of possibly forged parts."""
    dtype = b"cnumpy\ndtype\n" + code + b"K\0K\x01\x87R" + state
    content = b"T" + struct.pack("<i", len(content)) + content
    make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R"
    return make + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"


LABELS = array(b"(K\x01t", b"U\x02i8", bytes(8))


def tree_with(images, labels=LABELS):
    return b"\x80\x02" + (images + labels + b"\x86") * 3 + b"\x87."


def test_the_parts_that_are_forged_below_are_otherwise_valid():
    images = array(b"(K\x01K\x04t", b"U\x02f4", bytes(16))

    arrays = lesson_pickle.read(tree_with(images), "small", shape=(2, 2))
    assert arrays["t10k-images-idx3-ubyte"].tolist() == [[[0, 0], [0, 0]]]


WIDE = "\U0001f600".encode() + b"x" * 100_000_000
NINES = b"9" * 100_000_000
BOMBS = {
    "an encoding": (
        b"\x80\x02c_codecs\nencode\n" + text("x") + TWICE + b"\x86R.",
        "another encoding than latin1",
    ),
    "a dtype": (
        b"\x80\x02" + array(b"(K\1t", TWICE, b"") + LABELS + b"\x86NN\x87.",
        "an array that is not of f4",
    ),
    "a shape": (tree_with(array(TWICE, b"U\x02f4", b"")), "interpreted as an integer"),
    "a length": (
        tree_with(array(b"(" + TWICE + b"t", b"U\x02f4", b"")),
        "interpreted as an integer",
    ),
    "a state": (
        tree_with(array(b"(K\1t", b"U\x02f4", b"", b"T\0\xe1\xf5\5" + NINES + b"b")),
        "has a str, not a tuple of 8",
    ),
    "an absurd shape": (
        tree_with(array(b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft", b"U\x02f4", b"")),
        "cannot reshape array of size 0",
    ),
    "no images": (
        tree_with(
            array(b"(K\0K\x04t", b"U\x02f4", b""), array(b"(K\0t", b"U\x02i8", b"")
        ),
        r"images are \(0, 4\), labels \(0,\)",
    ),
    "a wide text": (
        b"\x80\x02X" + struct.pack("<I", len(WIDE)) + WIDE + b".",
        "a str,",
    ),
    "digits": (b"I" + NINES + b"\n.", "Exceeds the limit"),
    "a real number": (b"F" + NINES + b"\n.", "instruction FLOAT"),
    "a name": (b"cos\n" + NINES + b"\n.", "it asks for os.9999"),
    "a long number": (b"\x8b" + struct.pack("<i", 100_000_000) + NINES, "LONG4"),
}


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_in_a_pickle_needs_little_time_and_memory(tmp_path, bomb):
    content, reason = BOMBS[bomb]
    (tmp_path / "bomb").write_bytes(content)

    sentence = in_a_box(
        "lesson_pickle.read(content, 'evil', shape=(2, 2))",
        tmp_path / "bomb",
        imports="from tasks.sources import lesson_pickle; content = path.read_bytes()",
    )
    assert re.match(f"evil is not .*{reason}.*use another source", sentence)


def changed(digits, index, value, part=0):
    tree = lesson_tree(digits)
    tree[1][part].flat[index] = value
    return tree


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": 0.3}, "0.3.* times 256 is not a whole number from 0 to 255"),
        ({"value": 1.0}, "1.0 times 256 is not"),
        ({"value": -1 / 256}, "-0.0039.* times 256 is not"),
        ({"value": np.nan}, "nan times 256 is not"),
        ({"value": 3e38}, "3.* times 256 is not"),
        ({"value": 256, "part": 1}, "256 times 1 is not"),
        ({"value": -1, "part": 1}, "-1 times 1 is not"),
    ],
)
def test_a_value_that_is_not_a_byte_is_refused(digits, change, reason):
    content = tree_of_python2(changed(digits, index=77, **change))

    with pytest.raises(BadInput, match=reason):
        lesson_pickle.read(content, "lossy")


def test_a_dtype_of_objects_is_refused(digits):
    content = tree_of_python2(lesson_tree(digits), code="O8")

    with pytest.raises(BadInput, match="an array that is not of f4"):
        lesson_pickle.read(content, "evil")


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        (lambda i, k: [(i, k)] * 2, "not a tuple of 3"),
        (lambda _, k: [((1, 2), k)] * 3, "a tuple, not an array"),
        (lambda i, k: [(i[:-1], k)] * 3, r"images are \(2, 784\), labels \(3,\)"),
        (lambda i, k: [(i[:, :-1], k)] * 3, r"images are \(3, 783\), labels \(3,\)"),
        (lambda i, _: [(i, i)] * 3, "an array that is not of i8"),
        (lambda i, k: [(i.astype(float), k)] * 3, "an array that is not of f4"),
        (lambda i, k: [(np.asfortranarray(i), k)] * 3, "not plain rows of numbers"),
        (lambda i, k: [(i, k, k)] * 3, "not a tuple of 2"),
    ],
)
def test_other_arrays_are_refused(tree, reason):
    images, labels = np.ones((3, 784), np.float32) / 2, np.arange(3)
    content = pickle.dumps(tuple(tree(images, labels)), protocol=2)

    with pytest.raises(BadInput, match=reason):
        lesson_pickle.read(content, "other")


def test_images_have_the_requested_shape():
    tree = [(np.ones((2, 12), np.float32) / 2, np.arange(2))] * 3

    arrays = lesson_pickle.read(tree_of_python2(tree), "small", shape=(3, 4))

    assert arrays["train-images-idx3-ubyte"].tolist() == [[[128] * 4] * 3] * 4
    assert arrays["t10k-labels-idx1-ubyte"].tolist() == [0, 1]


VALID = pickle.dumps(((np.ones((2, 4), np.float32) / 2, np.arange(2)),) * 3, protocol=2)


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_pickle_is_read_or_refused(data):
    content = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(VALID) - 1))] = data.draw(
            st.integers(0, 255)
        )
    try:
        arrays = lesson_pickle.read(bytes(content), "damaged", shape=(2, 2))
    except BadInput as refused:
        assert "damaged is not" in str(refused)  # noqa: PT017  or it is read
    else:
        assert {values.dtype for values in arrays.values()} == {np.dtype(np.uint8)}
