"""The members of each object in an answer, in one table: it describes the object and makes its template."""
