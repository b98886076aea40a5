"""`python -m whisper_speedup STAGE`."""

from whisper_speedup.cli import main

main()
