"""The upkeep of the sums by label (`usage.sums.labels`).

`folding` bounds their names; `label_check` compares them with the rows of calls, and mends those that are wrong;
`month_check` compares those of months with those of their days, where rows have been pruned.

Imports `usage.upkeep.differing_sums` and `usage.upkeep.sum_mending`; `retention`, `verify` and `rebuild_totals` there
import this folder.
"""
