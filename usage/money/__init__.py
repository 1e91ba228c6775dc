"""Prices of calls, and reservations against budgets.

`prices` computes a call's dollars from the list prices of genai-prices or a custom price (`usage.own_prices`);
`row_pricing` prices rows on their way into the tables. `reservations` reserves an amount of a key's budget, atomically
for all workers and hosts; `holds` says what is spent and reserved, and when a reservation ends.

Imports `usage.models` and `usage.own_prices`.
"""
