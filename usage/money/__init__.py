"""The cost of calls, and leases of budgets: what each worker may spend, so that all together never pass a budget.

`billing` computes a call's dollars from its usage and the price of its model (`usage.prices`): `unbilled` says which
calls cost nothing, `token_units` splits the tokens, `tool_fees` knows what hosted tools cost. `row_pricing` prices rows
on their way into the tables.

`spenders` says what has budgets: a key or a team. `leases` has the leases of budgets in the memory of a worker, where
calls reserve and settle without I/O. `reservations` decides when one needs more, gives back, or ends; `lease_rounds`
sends that to PostgreSQL in one round trip, with the SQL of `lease_statements`. `spent_and_reserved` reads what spenders
have spent and reserved, and takes off leases what the calls have used whose rows are written to the tables.

Imports `usage.models` and `usage.prices`.
"""
