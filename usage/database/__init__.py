"""Work with PostgreSQL that is not about a table: its clock, locks, waits and indexes.

`clock`: the database's clock is the ledger's. `lock`: lets one process of all migrate or prune. `patience`: how long a
page waits for the database; the settings use it, so it imports no models. `concurrent_indexes`: operations of
migrations on tables that calls are written to.

Imports nothing of this package.
"""
