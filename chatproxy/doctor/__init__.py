"""The checks of the server's settings and surroundings: `manage.py doctor` shows them, `manage.py serve` obeys them.

A check is a function that yields a `finding` for each thing that is wrong or doubtful, and nothing if all is well.
`checkup` lists every check under its name, in three tables: those of the settings, of this machine, of Redis and of
single sign-on (`setting_checks`, `host_checks`, `redis_check`, `sign_in_check`), those that need a connection to the
database (`database_checks`), and those that need a database with the tables of the ledger (`ledger_checks`). `serve`
runs the tables in this order, each as soon as it can: a fault ends the start, and a warning is one line. `doctor` runs
all of them, and changes nothing.

Imports `start` and what that imports; not `processes` or `page_protection`.
"""
