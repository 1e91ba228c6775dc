"""The work of `manage.py serve` before it becomes gunicorn.

`startup` waits for the port and the database, and migrates if a migration is missing (`applied_migrations`).
`directory_lock` lets only one server use a `DATA_DIR`.
`waiting_migrations` tries a migration again while its tables are in use. `secret_canary` checks that the server's
secrets are those with which the database was used. `first_start` generates missing secrets and makes the first admin.
`chatproxy.management.commands.serve` calls them in this order. Mere checks are in `chatproxy.doctor`.

May import `http`, `postgres` and the models, but not `processes` or `page_protection`.
"""
