"""One set over many workers: this process itself, processes of this machine, or Ray actors; one worker a GPU."""
