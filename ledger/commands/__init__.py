"""What can be asked to change: each command reads aggregates, decides, and appends what was decided."""
