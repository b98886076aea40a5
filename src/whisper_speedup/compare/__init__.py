"""How much faster, is it still the same text, what does it cost: the runs of one profile set side by side."""

from whisper_speedup.compare.stage import compare

__all__ = ["compare"]
