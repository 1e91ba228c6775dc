"""The bundled PostgreSQL, and what any database must be set to.

`bundled`: where the cluster lives, its start and stop; `cluster`: one cluster's directory; `binaries`: PostgreSQL's
programs and the account that runs them; `watch`: starts it again when it was killed. `database_settings` refuses a
database that cannot hold the ledger; `database_refusals` says why a connection failed, and whether to wait.

Imports nothing of the other folders here. What concerns the bundled one runs in gunicorn's master, without Django.
"""
