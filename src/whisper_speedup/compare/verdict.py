"""Rounding or not: how far apart two hypotheses may score under an exact model before rounding cannot explain it.

Both engines search with rounded arithmetic, so each ranks hypotheses by a score that is off by up to some amount. Two
hypotheses whose exact scores lie closer than both amounts together are a tie that either engine may break either way.

fp16: a logit between 16 and 32 is stored in steps of 2^-6, so off by at most 2^-7. A log-probability is one logit less
a mean over all of them, so off by at most twice that from storing alone; the mean over a hypothesis's tokens is off by
no more than its worst token. bf16 has 3 bits less. fp32 stores logits 2^13 times as finely, and what counts are the
sums before: engines' own fp32 scores were up to 1.7e-5 from the reference's (tiny.en, 13 recordings, November 2026),
two of them 3.4e-5, and 2^-13 (1.2e-4) leaves deeper models a factor of 3.5.

A gap above the limit is no proof of a fault: a near tie in the middle of the search can drop the beam that would have
won by far. It is a reason to look.
"""

from whisper_speedup.run.rows import Setup

TIE, BETTER, WORSE = "rounding tie", "better", "worse"
EPSILON = {"float16": 2.0**-6, "bfloat16": 2.0**-3, "float32": 2.0**-13, "float64": 2.0**-13}


def arithmetic(about: Setup) -> str:
    """The coarsest arithmetic of a run, from its run.json: a key of EPSILON."""
    # TF32 keeps as many bits of what it multiplies as fp16 does.
    if about.settings.get("precision") in ("autocast", "half", "tf32"):
        return "float16"
    return about.dtype if about.dtype in EPSILON else "float16"


def epsilon(arithmetics: list[str], tokens: int, length_penalty: float) -> float:
    """The limit for two hypotheses of up to `tokens` tokens, searched in these kinds of arithmetic.

    Scores are sums over tokens divided by tokens^length_penalty, so with a penalty other than 1 a score's error is
    the mean error of a token times tokens^(1 - length_penalty).
    """
    return max(EPSILON[name] for name in arithmetics) * max(tokens, 1) ** (1 - length_penalty)


def verdict(gap: float, limit: float) -> str:
    """`gap`: the reference's score of the engine's text less that of the baseline's. A rounding tie within the limit;
    beyond it, whether the engine's text is better or worse."""
    if abs(gap) <= limit:
        return TIE
    return BETTER if gap > 0 else WORSE
