"""Reproduce Kernl's Whisper benchmark, explain every differing output, and go past its speedup."""
