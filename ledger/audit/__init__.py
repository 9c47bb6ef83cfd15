"""Questions to history, answered from the log itself; read models are never asked."""
