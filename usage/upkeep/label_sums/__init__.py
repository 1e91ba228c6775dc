"""Maintains the sums by label (`usage.sums.labels`).

`folding` limits the number of names; `label_check` compares the sums with the rows of calls, and corrects wrong ones;
`month_check` compares the sums of months with those of their days if rows have been deleted; `grand_totals` compares
the grand totals of each label with these sums. `combining` adds up past days and months by all labels together, for
reports by two labels.

May import `usage.upkeep.differing_sums` and `usage.upkeep.sum_mending`. `retention`, `verify` and `rebuild_totals` of
`usage.upkeep`, and the command `ledger`, import this folder.
"""
