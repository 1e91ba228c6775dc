"""The access keys in the memory of this process, and the operations on keys for commands and pages.

`snapshots` reads all keys from the database, or from `DATA_DIR/keyring.json` while the database is away. `private_file`
writes that file, and the file with the gateway's own secrets. `callers` has a key's and its team's rights and limits,
in the form that calls need. `keyring` looks up the digest of a key's secret in a dictionary and returns its `Caller`,
without a query. `globs` matches the names of routes, models and objects to which a key is limited. `credentials` says
which upstream account pays for a caller's calls.

`self_service` has the operations on keys for people without a role in the admin: on their own keys, and as leads on
those of a team.

For commands and for `/api`: `audit_log` records who has changed a key or a team. For commands only: `litellm` (a
folder) takes over the keys and teams of a LiteLLM proxy.

`budget_use` reads how much of all budgets is used, for alerts and metrics.

The table of keys, and the rules for making, rotating and revoking a key, are in `proxyapi.models`; digests and
encryption are in `proxyapi.sealing`. This folder knows no calls: `proxyapi.dispatch` applies the rights of a key to a
call.
"""
