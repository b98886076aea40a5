"""Another program as a partner: JSON objects, one a line, through its standard input and output."""

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from whisper_speedup.errors import EngineLost, UserError


class Partner:
    """A running program. `who` names it in sentences, such as "Kernl's process".

    What it writes to standard error is kept, and its last line is quoted when the program ends too early.
    """

    def __init__(self, who: str, command: Sequence[str], environment: dict[str, str]) -> None:
        """Start the program. Raises UserError when it cannot be started."""
        self.who = who
        self.last_words = ""
        self.errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        try:
            self.program = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment,
                encoding="utf-8", errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{who} does not start: {command[0]} cannot be run ({error.strerror}).") from None
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        # A thread of its own, since a read from a pipe knows no time limit.
        threading.Thread(target=self._read, daemon=True).start()

    def ask(
        self, request: dict[str, Any], limit_s: float, progress: Callable[[int], object] | None = None
    ) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises as `hear` does, whose limit is one line's.

        Lines {"progress": n} may come before the answer; each goes to `progress`.
        """
        assert self.program.stdin is not None
        try:
            self.program.stdin.write(json.dumps(request) + "\n")
            self.program.stdin.flush()
        except (OSError, ValueError):  # a pipe whose other end is gone, or one that is closed already
            raise self._ended() from None
        while set(answer := self.hear(limit_s)) == {"progress"}:
            if progress is not None:
                progress(answer["progress"])
        return answer

    def hear(self, limit_s: float) -> dict[str, Any]:
        """The next answer. Raises UserError for {"error": sentence}; EngineLost when none comes, or no JSON.

        After EngineLost the program has been ended.
        """
        try:
            line = self.lines.get(timeout=limit_s)
        except queue.Empty:
            self._finish(patience_s=0)
            raise EngineLost(f"{self.who} gave no answer within {limit_s:.0f} s and was ended.") from None
        if line is None:
            raise self._ended()
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            self._finish(patience_s=0)
            raise EngineLost(f"{self.who} answered {line.strip()[:80]!r}, which is no JSON object, and was ended.")
        if "error" in answer:
            raise UserError(str(answer["error"]))
        return answer

    def close(self, patience_s: float = 10) -> None:
        """Let the program finish, as it should when its input ends, and end it if it does not within `patience_s`."""
        self._finish(patience_s)

    def _read(self) -> None:
        assert self.program.stdout is not None
        with self.program.stdout as lines:
            for line in lines:
                self.lines.put(line)
        self.lines.put(None)

    def _ended(self) -> EngineLost:
        self._finish(patience_s=10)
        last = f"; its last words were {self.last_words!r}" if self.last_words else ""
        return EngineLost(f"{self.who} ended with exit code {self.program.returncode}{last}.")

    def _finish(self, patience_s: float) -> None:
        assert self.program.stdin is not None
        with suppress(OSError):  # a last request that nobody read
            self.program.stdin.close()
        try:
            self.program.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self.program.kill()
            self.program.wait()
        if not self.errors.closed:
            self.errors.seek(0)
            said = [line.strip() for line in self.errors if line.strip()]
            self.last_words = said[-1][:200] if said else ""
            self.errors.close()
