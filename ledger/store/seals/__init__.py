"""How the personal data of events is sealed, under whose key, and what opens it."""
