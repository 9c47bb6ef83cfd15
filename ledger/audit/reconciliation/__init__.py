"""Whether the log agrees with itself and the read models of money agree with the log."""
