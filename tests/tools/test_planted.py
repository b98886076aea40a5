"""tools/planted.yaml fits today's source, and tools/planted.py tells what is found from what is not."""

import ast
import json
from pathlib import Path

import pytest
from tool import load

from whisper_speedup.errors import UserError

planted = load("planted")
FAULTS = planted.read()
TREE = {
    "pyproject.toml": "[tool.pytest.ini_options]\n",
    "src/whisper_speedup/disk/less.py": "def less(a, b):\n    return a < b  # strictly\n",
    "tests/disk/test_less.py": """
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src/whisper_speedup/disk"))
from less import less

def test_less():
    assert less(1, 2)
    assert not less(2, 1)
""",
    "tools/planted.yaml": """# Two lines of other text.

- {file: disk/less.py, breaks: the sign, text: a < b, becomes: a > b}
- {file: disk/less.py, breaks: the limit, text: a < b, becomes: a <= b, tests: [disk/test_less.py]}
""",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository of one function and one test."""
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_each_fault_s_text_is_there_once_and_its_change_is_still_python() -> None:
    lost = []
    for fault in FAULTS:
        try:
            changed = fault.changed(planted.ROOT)
            ast.parse(changed if fault.file.endswith(".py") else "")
        except (UserError, SyntaxError) as error:
            lost.append(str(error))
        lost += [f"line {fault.line}: no {path}" for path in fault.paths if not (planted.ROOT / path).exists()]
    assert lost == []


def test_there_are_forty_over_all_folders_and_none_twice() -> None:
    assert len({(fault.file, fault.text) for fault in FAULTS}) == len(FAULTS) >= 40
    source = planted.ROOT / planted.SOURCE
    folders = {path.parent.name for path in source.glob("*/__init__.py")}
    assert folders <= {fault.file.split("/")[0] for fault in FAULTS}


def test_one_is_found_and_one_is_not(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    assert planted.main(["--json", str(tree / "found.json")], tree) == 1
    rows = json.loads((tree / "found.json").read_text())
    test = "tests/disk/test_less.py::test_less"
    assert [(row["line"], row["found_by"]) for row in rows] == [(3, test), (4, None)]
    said = capsys.readouterr().out
    assert "1 of 2 faults are found" in said
    assert f"| disk/less.py | the sign | {test} |\n| disk/less.py | the limit | none |\n" in said
    assert {path: path.read_bytes() for path in before} == before  # the tree itself stays as it is


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("src/whisper_speedup/disk/less.py", "def less(a, b):\n    return b > a\n", "line 3: .* 0 times, not once"),
        ("src/whisper_speedup/disk/less.py", "a < b or a < b\n", "line 3: .* 2 times, not once"),
        ("tests/disk/test_less.py", "def test_less():\n    assert False\n", "test_less fails without a fault"),
        ("tests/disk/test_less.py", "import nothing_there\n", "ended with 2"),
        ("tools/planted.yaml", "- {file: disk/less.py, text: a}\n", "0.breaks is missing"),
    ],
)
def test_what_tells_nothing_is_refused(tree: Path, name: str, text: str, expected: str) -> None:
    (tree / name).write_text(text)
    with pytest.raises(UserError, match=expected):
        planted.main([], tree)


def test_a_name_that_no_file_has_is_refused() -> None:
    with pytest.raises(UserError, match="no fault in a file that begins with diks"):
        planted.main(["--only", "diks"])
