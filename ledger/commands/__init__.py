"""Commands: each reads aggregates, decides, and appends the events it decided on."""
