"""Run a notebook's code cells in order, as Jupyter would, with nothing but Python; keep what they print in the file.

    python tools/run_notebook.py notebooks/speedup.ipynb

For cells of plain Python: no magics, no rich output. The first exception ends the run, and the file stays as it was.
"""

import contextlib
import io
import json
import sys
import types
from pathlib import Path
from typing import Any


def run(path: Path) -> dict[str, Any]:
    """The notebook with each cell's printed lines as its output. Raises whatever a cell raises."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    module = types.ModuleType("__main__")
    count = 0
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        count += 1
        printed = _Tee()
        with contextlib.redirect_stdout(printed):
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), vars(module))  # noqa: S102 (our own notebook)
        text = printed.getvalue().splitlines(keepends=True)
        cell["execution_count"] = count
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []
    return notebook


class _Tee(io.StringIO):
    """Keeps what is printed, and shows it."""

    def write(self, text: str) -> int:
        sys.__stdout__.write(text)  # type: ignore[union-attr]
        return super().write(text)


def main() -> None:
    """Run the notebook named on the command line and write it back."""
    path = Path(sys.argv[1])
    notebook = run(path)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
