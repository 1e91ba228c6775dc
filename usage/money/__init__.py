"""Prices of calls, and reservations against budgets.

`price_sources` finds the price of a model: a custom one (`usage.custom_prices`), a correction (`price_corrections`), or
that of genai-prices (`published_prices`), whose list in use `genai_price_list` knows. `billing` computes a call's
dollars: `unbilled` says which calls cost nothing, `token_units` splits the tokens, `tool_fees` knows what hosted tools
cost. `row_pricing` prices rows on their way into the tables. `reservations` reserves an amount of a key's budget,
atomically for all workers and hosts; `spent_and_reserved` reads what keys have spent and reserved, and deletes
reservations.

Imports `usage.models` and `usage.custom_prices`.
"""
