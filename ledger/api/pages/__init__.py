"""Pages for people: where a service's URL leads to, and the reference of the API. All is served here."""
