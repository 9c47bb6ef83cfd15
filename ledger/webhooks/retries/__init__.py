"""Retries of many: all deliveries of an account that match some filters, made due again by a job.

`filters` decides which deliveries they are, `selection` finds, counts and takes them, `records` keeps the
retries, and `job` makes their deliveries due, some at a time to each endpoint.
"""
