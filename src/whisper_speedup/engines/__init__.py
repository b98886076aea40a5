"""Ways of decoding, all behind one Protocol: one file an engine."""
