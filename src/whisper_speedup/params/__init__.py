"""What a person can type: profiles, sources of speech and weights, engines' settings; each with its checks."""
