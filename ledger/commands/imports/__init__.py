"""Bulk imports: NDJSON lines that ingest facts from other systems."""
