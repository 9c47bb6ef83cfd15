"""Questions about history, answered from the log: how it looked, what changed, who did it."""
