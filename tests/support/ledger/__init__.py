"""Helpers that put records into the journal and the tables, and read them again, for tests."""
