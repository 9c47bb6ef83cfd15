"""The journal: append domain events to the log, fold streams from it, read it in position order.

The only package that uses the `eventsourcing` library's persistence and the log's tables.
"""
