"""What a measurement stands on: the clock, the memory, the machine and its software, and the state it was in."""
