"""The page people look at: one self-contained HTML file from the small files in reports/PROFILE."""

from whisper_speedup.report.render import render

__all__ = ["render"]
