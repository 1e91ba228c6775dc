"""Owns the work with PostgreSQL that is not about a table: its clock, locks, deadlines and indexes.

`clock` reads the database's clock, which is the ledger's. `lock` lets one process at a time migrate or prune.
`query_deadline` bounds how long a page waits for the database; the settings use it, so it imports no models.
`fault_words` says what an error means. `concurrent_indexes` makes indexes in migrations while calls are being written.

Imports nothing of this package.
"""
