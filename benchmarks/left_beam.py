"""Where did a differing hypothesis leave the exact search, and by how much? For the differences of a parity run.

    python benchmarks/left_beam.py --parity benchmarks/results/parity-DATE-cpu.json --clips samples

A difference whose final scores are no tie can still be one of rounding: a near tie in the middle of the search drops
the beam that would have won (compare/verdict.py). So the search is run again in fp32, and watched: at which token does
the engine's hypothesis fall behind the last beam that is kept, by how much log-probability, and how much does a logit's
rounding to 16 bits come to by then? Greedy searches have no beams to leave, so there it is the first other token and
the likeliest's lead over it. Writes one JSON, kind `left_beam`.
"""

import argparse
from pathlib import Path
from typing import Any, ClassVar

import torch
from record import record
from settings import generation_params, measure_params
from speech import clips_in, features
from transformers import WhisperFeatureExtractor

from whisper_speedup.compare.verdict import EPSILON
from whisper_speedup.disk.files import read_json
from whisper_speedup.engines.create import create
from whisper_speedup.fused import model as fused_model
from whisper_speedup.fused.beam_search import BeamSearch, GreedySearch


class Watched:
    """What both searches share: `wanted`, the tokens to be followed, and `left`, where they fell behind."""

    wanted: ClassVar[list[int]] = []
    left: ClassVar[dict[str, Any] | None] = None

    def follow(
        self, rows: list[list[int]], scores: torch.Tensor, kept: float, going: list[list[int]], summed: int
    ) -> None:
        """`rows`: the beams so far; `scores` (rows, V): of every continuation, sums over `summed` tokens; `kept`: the
        least that is kept; `going`: the beams that are kept.
        """
        generated = len(rows[0])
        if Watched.left is not None or generated >= len(Watched.wanted):
            return
        before, after = Watched.wanted[:generated], Watched.wanted[: generated + 1]
        if before not in rows or after in going:
            return
        score = float(scores[rows.index(before), after[-1]])
        Watched.left = {"token": generated, "behind": kept - score, "rounding": EPSILON["float16"] * summed}


class WatchedBeams(BeamSearch, Watched):
    """A beam search that says where `wanted` leaves it."""

    def advance(self, logits: torch.Tensor) -> bool:
        generated = self.length - self.prompt_length
        rows = self.sequences[:, :generated].tolist()
        scores = torch.log_softmax(logits.float(), dim=-1)
        self.suppression.apply(scores, self.length, self.prompt_length, self.settings.min_length)
        scores = scores.expand(len(rows), -1) + self.scores[:, None]
        going_on = super().advance(logits)
        going = self.sequences[:, : generated + 1].tolist()
        self.follow(rows, scores, float(self.scores[-1]), going, generated + 1)
        return going_on


class WatchedGreedy(GreedySearch, Watched):
    """The same for one beam."""

    def advance(self, logits: torch.Tensor) -> bool:
        rows, scores = [list(self.sequence)], logits.float().clone()
        self.suppression.apply(scores, self.length, self.prompt_length, self.settings.min_length)
        going_on = super().advance(logits)
        self.follow(rows, scores, float(scores[0, self.sequence[-1]]), [list(self.sequence)], 1)
        return going_on


def main() -> None:
    """Follow every difference of the run that has beams, or one token after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parity", type=Path, required=True, help="what parity.py wrote")
    parser.add_argument("--clips", nargs="+", type=Path, required=True, help="the folders that it read")
    parser.add_argument("--models", type=Path, default=Path("build/models"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    clips = {clip.stem: clip for clip in clips_in(arguments.clips)}
    fused_model.BeamSearch, fused_model.GreedySearch = WatchedBeams, WatchedGreedy  # type: ignore[misc]
    rows = []
    for row in read_json(arguments.parity)["rows"]:
        for entry in row["differ"]:
            found = follow(arguments.models / row["model"], row["beams"], clips[entry["clip"]], entry["engine"])
            rows.append({"model": row["model"], "beams": row["beams"], "engine": row["engine"], "clip": entry["clip"],
                         "gap": entry["gap"], **found})  # fmt: skip
            print(rows[-1], flush=True)
    print(record("left_beam", "cpu", arguments.out, parity=arguments.parity.name, rows=rows))


def follow(folder: Path, beams: int, clip: Path, wanted: list[int]) -> dict[str, Any]:
    """Decode one clip in fp32 on a CPU and say where `wanted` was left behind."""
    engine: Any = create("fused", measure_params("cpu"))
    engine.load(folder, generation_params(beams, 50), torch.device("cpu"))
    Watched.wanted, Watched.left = wanted, None
    exact = engine.generate(features(clip, WhisperFeatureExtractor.from_pretrained(folder))).tokens
    engine.close()
    return {"left": Watched.left, "same_as_engine": exact == wanted}


if __name__ == "__main__":
    main()
