"""Our engine: packed weights, caches shared by the beams, the decoder step and the beam search."""
