"""Where the price of a model comes from.

`price_sources` finds the price of a model at a time, in a service tier: a custom one (`usage.custom_prices`), a
correction (`price_corrections`), or that of genai-prices (`published_prices`), whose list in use `genai_price_list`
knows. What a call costs by that price is `usage.money.billing`.

Imports `usage.custom_prices`; no model, and nothing of a call but its record.
"""
