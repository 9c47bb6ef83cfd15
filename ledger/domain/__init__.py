"""Facts and decisions: pure functions of state, input, time and ids. No clock, no randomness, no I/O."""
