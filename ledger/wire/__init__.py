"""The public wire format: form bytes to values, states to JSON, domain events to public Events. No I/O."""
