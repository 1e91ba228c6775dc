"""Fills a ledger with millions of calls in minutes.

`ledger_rows` makes up a week of calls; the product's own code writes them. `copied_weeks` lets PostgreSQL copy that
week into the weeks before, and `copied_months` adds the copies to the sums of months. `bulk_loading` has what makes
PostgreSQL fast meanwhile.
"""
