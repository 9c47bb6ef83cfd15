"""Domain events, states and decisions: pure functions of state, parameters, time and ids, without I/O."""
