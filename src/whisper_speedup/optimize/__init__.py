"""`optimize_model`: a transformers Whisper of the user's own, its `generate` left as it is, made faster."""
