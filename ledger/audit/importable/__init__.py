"""Exports of objects: the lines that `ledger import` takes, by which another ledger gets the same objects."""
