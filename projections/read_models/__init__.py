"""The projections there are: read models for lists, the Event feed, the journal's postings, deadlines."""
