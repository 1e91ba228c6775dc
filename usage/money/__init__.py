"""The cost of calls, and reservations against budgets.

`billing` computes a call's dollars from its usage and the price of its model (`usage.prices`): `unbilled` says which
calls cost nothing, `token_units` splits the tokens, `tool_fees` knows what hosted tools cost. `row_pricing` prices rows
on their way into the tables. `reservations` reserves an amount of a key's budget, atomically for all workers and hosts;
`spent_and_reserved` reads what keys have spent and reserved, and deletes reservations.

Imports `usage.models` and `usage.prices`.
"""
