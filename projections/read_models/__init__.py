"""The projections: read models for lists, the public Event feed, postings, deadlines."""
