"""Keys that protect what is stored: the service key of the deployment, and what it wraps."""
