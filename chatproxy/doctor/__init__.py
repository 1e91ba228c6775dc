"""Checks of the server's settings and surroundings. `manage.py doctor` shows the results; `manage.py serve` obeys them.

A check is a function that yields a `finding` for each thing that is wrong or doubtful, and nothing if all is well.
`checkup` lists all checks by name, in four tables. The first has those of the settings, of this machine, of Redis and
of single sign-on (`setting_checks`, `host_checks`, `redis_check`, `sign_in_check`). The second has those of the way to
upstream (`upstream_checks`), which only `doctor` makes. The third needs a connection to the database
(`database_checks`), the fourth a database with the ledger's tables (`ledger_checks`). `serve` runs the other tables in
this order, each as soon as it can: a fault ends the start, a warning is printed as one line. `doctor` runs all tables,
and changes nothing.

May import `start` and its imports, but not `processes` or `page_protection`.
"""
