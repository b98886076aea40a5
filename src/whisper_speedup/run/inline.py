"""The same as a crew, with this process as its only worker: no other process, and nothing between engine and clock."""

from collections.abc import Callable, Generator
from contextlib import closing

from whisper_speedup.run.crew import Figures, Progressed, finished
from whisper_speedup.run.job import Job
from whisper_speedup.run.messages import Ended, Item, Loaded, Rows
from whisper_speedup.run.waiting import Waiting
from whisper_speedup.run.worker import work


class Inline:
    """`items`: utterances by number."""

    size = 1

    def __init__(self, job: Job, items: Callable[[list[int], bool], list[Item]]) -> None:
        self.job, self.items = job, items
        self.waiting = Waiting([], 1)  # set by the caller once the engine has loaded

    def run(self) -> Generator[Progressed]:
        """Loaded, Rows, Finished. Raises what the engine raises."""
        figures: Figures | None = None
        with closing(work(self.job, lambda wait: self.items(self.waiting.take(0), False))) as messages:
            for message in messages:
                if isinstance(message, Loaded):
                    figures = Figures(0, message)
                assert figures is not None
                if isinstance(message, Rows):
                    figures.add([row for row in message.rows if self.waiting.done(0, row.at)])
                if isinstance(message, Ended):
                    figures.ended = message
                yield finished([figures]) if isinstance(message, Ended) else message
