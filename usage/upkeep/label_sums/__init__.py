"""The upkeep of the sums by label (`usage.sums.labels`).

`folding` bounds their names; `label_check` compares them with the rows of calls, and rebuilds those that are wrong.

Imports `usage.upkeep.differing_sums`; `retention`, `verify` and `rebuild_totals` there import this folder.
"""
