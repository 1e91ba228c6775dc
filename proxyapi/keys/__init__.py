"""The access keys of this process, in memory, and what commands do with keys.

`snapshots` reads all keys from the database, or from `DATA_DIR/keyring.json` while the database is away. That file is
written by `private_file`, as is that of the gateway's own secrets. `callers` has what a key and its team may do, as
calls look at it. `keyring` looks up the digest of a key's secret in a dictionary and returns its `Caller`: no query, no
wait. `globs` matches the names of routes, models and objects that a key is limited to. `credentials` says which
upstream account pays for a caller's calls.

`self_service` has what people without a role may do with keys: with their own, and as leads with those of a team.

For commands and for `/api`: `audit_log` records who has changed a key or a team. For commands only: `litellm_tables`
reads the keys of a LiteLLM proxy, and `litellm_keys` says which keys of ours are like them.

`budget_use` reads how much of all budgets is used, for alerts and metrics.

The table, and the rules for making, rotating and revoking a key, are `proxyapi.models`; digests and sealing are
`proxyapi.sealing`. Nothing here knows a call: `proxyapi.dispatch` applies what a key may do.
"""
