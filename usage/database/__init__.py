"""Owns the work with PostgreSQL that is not about one table: its clock, locks, deadlines, indexes and partitions.

`clock` reads the database's clock, which is the ledger's. `lock` lets one process at a time migrate or prune.
`query_deadline` bounds how long a page waits for the database; the settings use it, so it imports no models. `snapshot`
shows all queries of a page the same moment. `fault_words` says what an error means. `concurrent_indexes` makes indexes
in migrations, and `partitions` makes and drops parts of tables, while calls are being written; `compression` says how
their texts are compressed.

Imports only the modules of the level above that have no models.
"""
