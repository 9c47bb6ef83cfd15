"""The OpenAPI description of both APIs, from the tables that parse requests and make answers."""
