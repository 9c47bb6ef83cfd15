"""The routes about erasures."""
