"""Exports of the log: files that prove by themselves that nothing in them was changed, removed or added."""
