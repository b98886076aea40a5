"""Revisions, downloads that resume, and the sentences for what a hub answers."""
