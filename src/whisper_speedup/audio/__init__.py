"""Where speech comes from, and how it becomes 16 kHz mono clips, a manifest and log-mel features."""
