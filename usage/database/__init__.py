"""The work with PostgreSQL that is not about one table: its clock, locks, deadlines, indexes and partitions.

`clock` reads the database's clock, which is the ledger's. `lock` lets only one process at a time migrate the database
or prune it (delete old rows). `query_deadline` limits how long a page waits for the database; the settings use it, so
it imports no models. `time_limits` lets long work run to its end, whatever limits the database has. `lent_connection`
gives a page's connection back to the pool. `pooler` recognises a connection pooler. `snapshot` shows all queries of a
page the same moment. `last_statements` ends a transaction in one round trip. `fault_words` explains errors of the
database. `concurrent_indexes` makes indexes in migrations, and `partitions` makes and drops parts of tables, while
calls are being written; `compression` says how their texts are compressed.

May import only those modules of the level above that have no models.
"""
