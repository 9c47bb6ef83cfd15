"""Witnesses of our log: which they are, how they are asked, and what they have cosigned."""
