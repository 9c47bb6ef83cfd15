"""The public wire format, without I/O: form bytes to values, states to JSON, domain events to public
Events."""
