"""One model as the yardstick for every engine: any hypothesis scored as it is, teacher-forced, in IEEE fp32."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import WhisperForConditionalGeneration

from whisper_speedup.checkpoints.load import load_model


@dataclass(frozen=True)
class Hypothesis:
    """Generated ids, prompt and end-of-text left out; `ended` when end-of-text came after them."""

    tokens: list[int]
    ended: bool


@dataclass(frozen=True)
class Score:
    """`value` is what beam search ranks by: the sum of `log_probs` over their number to the length penalty.

    `log_probs` (tokens + 1 or tokens,) are natural logarithms, end-of-text's the last where it was reached.
    """

    value: float
    log_probs: list[float]


def load(model_dir: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> WhisperForConditionalGeneration:
    """The checkpoint; the reference has it in fp32.

    Eager attention: plain products, no fused kernel that brings a TF32 of its own.
    """
    model = load_model(model_dir, dtype, "eager")
    return model.to(device).eval()


class Judge:
    """Scores hypotheses under `model`. `prompt` holds None where the language is detected for each utterance."""

    def __init__(
        self, model: WhisperForConditionalGeneration, prompt: list[int | None], length_penalty: float = 1.0
    ) -> None:
        self.model = model
        self.prompt, self.length_penalty = prompt, length_penalty
        eos = self.model.generation_config.eos_token_id
        self.eos = int(eos[0] if isinstance(eos, list) else eos)

    @torch.no_grad()
    def score(self, features: torch.Tensor, hypotheses: list[Hypothesis]) -> list[Score]:
        """Score each hypothesis for log-mel features (1, mels, 3000); the encoder runs once."""
        with ieee_fp32():
            features = features.to(self.model.device, self.model.dtype)
            encoded = self.model.model.encoder(features)
            prompt = self._prompt(features)
            return [self._score(encoded, prompt, hypothesis) for hypothesis in hypotheses]

    def _score(self, encoded: object, prompt: list[int], hypothesis: Hypothesis) -> Score:
        whole = [*hypothesis.tokens, self.eos] if hypothesis.ended else list(hypothesis.tokens)
        if not whole:
            return Score(0.0, [])
        ids = torch.tensor([prompt + whole[:-1]], device=self.model.device)
        logits = self.model(encoder_outputs=encoded, decoder_input_ids=ids, use_cache=False).logits[0]
        chosen = torch.tensor(whole, device=self.model.device)[:, None]
        # Beam search takes log-probabilities over the whole vocabulary, before it masks suppressed tokens.
        log_probs = logits[len(prompt) - 1 :].double().log_softmax(-1).gather(1, chosen)[:, 0].tolist()
        return Score(sum(log_probs) / len(whole) ** self.length_penalty, log_probs)

    def _prompt(self, features: torch.Tensor) -> list[int]:
        if None not in self.prompt:
            return [token for token in self.prompt if token is not None]
        language = int(self.model.detect_language(input_features=features)[0])
        return [language if token is None else token for token in self.prompt]


@contextmanager
def ieee_fp32() -> Iterator[None]:
    """No TF32 anywhere: the engines allow it for products (as the notebook does), and cuDNN by default for the
    encoder's convolutions."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
