"""HTTP: the public wire protocol, the internal API, health and metrics. `app` composes the process."""
