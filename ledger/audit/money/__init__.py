"""The books at any moment: the trial balance, and the journal of postings traced to their events."""
