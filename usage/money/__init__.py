"""The cost of calls, and leases: parts of budgets for each worker, so that all workers together never exceed a budget.

`billing` computes a call's dollars from its usage and the price of its model (`usage.prices`): `unbilled` says which
calls cost nothing, `token_units` splits the tokens, `tool_fees` knows what hosted tools cost. `row_pricing` prices rows
on their way into the tables.

`spenders` has the type for what has budgets: a key or a team. `leases` has the leases in the memory of a worker, from
which calls reserve dollars, and settle them, without I/O. `reservations` decides when a lease needs more dollars, gives
some back, or ends; `lease_rounds` sends that to PostgreSQL in one round trip, with the SQL of `lease_statements`.
`spent_and_reserved` reads how much spenders have spent and reserved, and subtracts the cost of calls from leases when
the calls' rows are written to the tables.

May import `usage.models` and `usage.prices`.
"""
