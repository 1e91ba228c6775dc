"""Finds the price of a model, from several sources.

`price_lookup` finds the price of a model at a time, in a service tier: a custom price (`usage.custom_prices`), a
correction (`price_corrections`), or the price that the package genai-prices publishes (`published_prices`, from the
list in `genai_price_list`). `usage.money.billing` computes the cost of a call by that price.

May import `usage.custom_prices`, but no Django model, and nothing about calls except their record.
"""
