"""The wire, purely: bytes to values (`forms`, `parameters`, `tables`, `expansion`) and the names it knows."""
