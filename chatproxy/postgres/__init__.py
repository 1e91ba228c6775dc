"""Runs the bundled PostgreSQL, and explains why a connection to any database failed.

From the ground up: `binaries` has PostgreSQL's programs and the account that runs them; `cluster` is one cluster's
directory; `bundled` knows where the cluster lives, and starts and stops its server; `watch` starts the server again
when it was killed. `client_programs` runs pg_dump and pg_restore on any database. `database_refusals` explains why a
connection failed, and whether waiting may help.

May import none of the other folders here, and not Django, since gunicorn's master runs the bundled PostgreSQL.
"""
