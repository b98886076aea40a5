"""Decoding a set of utterances: the stages, workers here and elsewhere, rows that survive a kill, rounds."""
