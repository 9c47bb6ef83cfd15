"""Replays: the Events of a window of the log, sent to one webhook endpoint.

`filters` decides which Events a replay sends, `selection` finds them in the log or among the deliveries that
were given up, `records` keeps the replays, and `job` makes deliveries of their Events, some at a time.
"""
