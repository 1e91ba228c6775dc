"""The work of `manage.py serve` before it becomes gunicorn.

`startup` waits for the port and the database, and migrates if a migration is missing (`applied_migrations`);
`waiting_migrations` tries a migration again while its tables are in use; `secret_canary` proves that the secrets are
those of the database; `first_start` generates missing secrets and makes the first admin.
`chatproxy.management.commands.serve` calls them in this order; what it only checks is in `chatproxy.doctor`.

Imports `http`, `postgres` and the models; not `processes` or `page_protection`.
"""
