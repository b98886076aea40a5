"""Every output that differs, both hypotheses scored under one fp32 reference model: a tie, better or worse."""

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

from whisper_speedup.compare.differences import Difference, Fork
from whisper_speedup.compare.runs import Inputs
from whisper_speedup.compare.verdict import BETTER, TIE, WORSE, arithmetic, epsilon, verdict
from whisper_speedup.disk.progress import track
from whisper_speedup.disk.records import Facts
from whisper_speedup.errors import UserError, say
from whisper_speedup.params.profile import BASELINE, Profile

if TYPE_CHECKING:
    from whisper_speedup.compare.judge import Hypothesis, Score

NO_WEIGHTS = "the model's weights were not on the machine that compared the runs"
OTHER_WEIGHTS = "the weights on the machine that compared the runs were not those of the runs"
NO_AUDIO = "the recording was not on the machine that compared the runs"
WINDOWS = "the text spans several windows of audio, which the reference does not follow"
JUDGED = ("reference_scores", "gap", "epsilon", "verdict", "fork")
NOT_FINITE = "the reference gives one of the texts a probability of zero"


def rescore(rows: list[Difference], inputs: Inputs, profile: Profile, folder: Path) -> tuple[list[Difference], Facts]:
    """The rows of differences.jsonl with a verdict each, and what context.json says about it.

    `folder` is build/PROFILE. Without the weights or a recording nothing fails: `not_judged` then gives the reason.
    """
    reason = None if rows else "no output differs"
    judge = None
    if rows:
        judge, reason = _judge(inputs, profile, folder)
    judged = [row.but(**dict.fromkeys(JUDGED), not_judged=reason) for row in rows]
    if judge is not None:
        judged = [row.but(**judge.judged(row)) for row in track(judged, "re-scoring", "differing output")]
    verdicts = [row.verdict for row in judged]
    return judged, {
        "judged": sum(found is not None for found in verdicts),
        "ties": verdicts.count(TIE),
        "better": verdicts.count(BETTER),
        "worse": verdicts.count(WORSE),
        "not_judged": len(verdicts) - sum(found is not None for found in verdicts),
        "reason": reason,
        "device": judge.device if judge else None,
    }


def _judge(inputs: Inputs, profile: Profile, folder: Path) -> tuple["_Reference | None", str | None]:
    """The reference model, or why there is none."""
    from whisper_speedup.checkpoints.prepare import checked_folder

    if not Path(inputs.model.path).is_dir():
        return None, NO_WEIGHTS
    try:
        model_dir = checked_folder(folder / "model.json")
    except UserError as error:
        say(f"differing outputs are not re-scored: {error}")
        return None, OTHER_WEIGHTS
    return _Reference(model_dir, inputs, profile, folder), None


class _Reference:
    """The fp32 model with what it needs to hear an utterance again."""

    def __init__(self, model_dir: Path, inputs: Inputs, profile: Profile, folder: Path) -> None:
        import torch
        from transformers import WhisperFeatureExtractor, WhisperTokenizer

        from whisper_speedup.compare.judge import Judge, load
        from whisper_speedup.engines.huggingface import quiet_transformers

        quiet_transformers()
        self.runs = {run.engine: run for run in [*inputs.runs, *inputs.yardstick]}
        self.length_penalty = profile.generation.length_penalty if profile.generation.num_beams > 1 else 1.0
        # Where this machine computes, which need not be where the runs were made.
        on_gpu = profile.measure.device != "cpu" and torch.cuda.is_available()
        self.device = "cuda" if on_gpu else "cpu"
        model = load(model_dir, torch.device(self.device))
        self.judge = Judge(model, self.runs[BASELINE].about.prompt, self.length_penalty)
        self.extractor = WhisperFeatureExtractor.from_pretrained(model_dir)
        self.tokenizer = WhisperTokenizer.from_pretrained(model_dir)
        self.manifest_path = folder / "data" / "manifest.jsonl"
        self.manifest = {row.id: row for row in inputs.manifest}
        # Timestamps follow the no-timestamps token.
        last = getattr(self.judge.model.generation_config, "no_timestamps_token_id", None)
        self.timestamps = math.inf if last is None else last + 1
        self.known: dict[tuple[str, tuple[int, ...], bool], Score] = {}

    def judged(self, row: Difference) -> dict[str, object]:
        """What is to be set of a row."""
        from whisper_speedup.compare.judge import Hypothesis

        engine = row.engine
        pair = {
            "baseline": Hypothesis(row.baseline_tokens, not row.truncated["baseline"]),
            engine: Hypothesis(row.tokens, not row.truncated[engine]),
        }
        if any(self._several_windows(hypothesis.tokens) for hypothesis in pair.values()):
            return {"not_judged": WINDOWS}
        try:
            before, after = self._scores(row.id, list(pair.values()))
        except UserError:
            return {"not_judged": NO_AUDIO}
        if not (math.isfinite(before.value) and math.isfinite(after.value)):
            return {"not_judged": NOT_FINITE}
        gap = after.value - before.value
        kinds = [arithmetic(self.runs[name].about) for name in (BASELINE, engine)]
        limit = epsilon(kinds, max(len(before.log_probs), len(after.log_probs)), self.length_penalty)
        return {
            "reference_scores": {"baseline": before.value, engine: after.value},
            "gap": gap,
            "epsilon": limit,
            "verdict": verdict(gap, limit),
            "fork": self._fork(row.first_divergence, pair, [before.log_probs, after.log_probs]),
        }

    def _scores(self, utterance: str, hypotheses: "list[Hypothesis]") -> "list[Score]":
        """Each hypothesis is scored once, however many engines and variants gave it. Raises UserError: no recording."""
        from whisper_speedup.audio import manifest
        from whisper_speedup.audio.features import log_mel

        keys = [(utterance, tuple(hypothesis.tokens), hypothesis.ended) for hypothesis in hypotheses]
        new = {key: one for key, one in zip(keys, hypotheses, strict=True) if key not in self.known}
        if new:
            audio = manifest.load_audio(self.manifest_path, self.manifest[utterance])
            scores = self.judge.score(log_mel(audio, self.extractor), list(new.values()))
            self.known |= dict(zip(new, scores, strict=True))
        return [self.known[key] for key in keys]

    def _several_windows(self, tokens: list[int]) -> bool:
        """Two timestamps in a row: transformers moves the window there and decodes again (see fused/segments.py)."""
        return any(min(pair) >= self.timestamps for pair in itertools.pairwise(tokens))

    def _fork(
        self, position: int | None, pair: "dict[str, Hypothesis]", log_probs: list[list[float]]
    ) -> dict[str, Fork] | None:
        """The token that each takes where they part, its text (null: the end) and its probability."""
        if position is None:
            return None
        fork = {}
        for (name, hypothesis), values in zip(pair.items(), log_probs, strict=True):
            token = hypothesis.tokens[position] if position < len(hypothesis.tokens) else None
            fork[name] = Fork(
                token=token,
                text=None if token is None else self.tokenizer.decode([token]),
                probability=math.exp(values[position]) if position < len(values) else None,
            )
        return fork
