import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.checkpoints.ctranslate2_files import model_bytes, name
from whisper_speedup.checkpoints.ctranslate2 import Array, parse
from whisper_speedup.errors import UserError

VARIABLES: dict[str, Array] = {
    "a/float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/half": np.arange(4, dtype=np.float16),
    "a/flag": np.array(1, np.int8),
    "a/short": np.array([-1, 2], np.int16),
    "a/int": np.array([[7]], np.int32),
}
FILE = model_bytes(VARIABLES, {"b/tied": "a/half"})


def read(data: bytes) -> dict[str, Array]:
    return parse(data, spec="WhisperSpec", revision=3, source="model.bin")


def test_every_type_and_an_alias_come_back() -> None:
    found = read(FILE)
    assert set(found) == {*VARIABLES, "b/tied"}
    for key, array in VARIABLES.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array)
    np.testing.assert_array_equal(found["b/tied"], VARIABLES["a/half"])


def test_a_file_cut_at_any_byte_is_refused_with_one_sentence() -> None:
    for length in range(len(FILE)):
        with pytest.raises(UserError, match=r"model.bin is not a model file") as caught:
            read(FILE[:length])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (FILE + b"\0", "1 bytes are left over"),
        (model_bytes(VARIABLES, version=5), "the binary version is 5, not 6"),
        (model_bytes(VARIABLES, spec="TransformerSpec"), "the spec is 'TransformerSpec', not 'WhisperSpec'"),
        (model_bytes(VARIABLES, revision=2), "the revision of WhisperSpec is 2, not 3"),
        (model_bytes(VARIABLES, {"x": "nothing"}), "x cannot stand for nothing"),
        (model_bytes(VARIABLES, {"a/int": "a/half"}), "a/int cannot stand for a/half"),
        (b"PK\x03\x04" + bytes(100), "the binary version is"),
        (b"", "the version needs 4 bytes and 0 are left"),
    ],
)
def test_foreign_files_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read(data)


def one_variable(content: bytes) -> bytes:
    return struct.pack("<I", 6) + name("WhisperSpec") + struct.pack("<II", 3, 1) + content + struct.pack("<I", 0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (name("x") + b"\xff", "x has rank 255"),
        (name("x") + struct.pack("<BIBI", 1, 1, 9, 4) + bytes(4), "x has the unknown data type 9"),
        (name("x") + struct.pack("<BIBI", 1, 2, 0, 4) + bytes(4), "claims 4 bytes"),
        (name("x") + struct.pack("<BIBI", 1, 0, 0, 0), r"x has the shape \[0\]"),
        (name("x") + struct.pack("<B3IBI", 3, *[2**32 - 1] * 3, 0, 2**32 - 1), "claims 4294967295 bytes"),
        (struct.pack("<H", 3) + b"abc" + bytes(20), "a variable's name is not a name"),
    ],
)
def test_wrong_variables_are_refused(content: bytes, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        read(one_variable(content))


def test_a_repeated_variable_is_refused() -> None:
    body = model_bytes({"x": np.zeros(1, np.float32)})
    start = 4 + len(name("WhisperSpec")) + 4
    entry = body[start + 4 : -4]
    with pytest.raises(UserError, match="x appears twice"):
        read(body[:start] + struct.pack("<I", 2) + entry + entry + body[-4:])


@example([(182, 10)])  # a line break in an alias
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(FILE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_give_arrays_or_one_sentence(changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILE)
    for place, value in changes:
        data[place] = value
    try:
        read(bytes(data))
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
