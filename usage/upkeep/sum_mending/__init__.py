"""Corrects sums while calls are being written: adds the differences that are missing.

Sums only ever change by adding. A writer adds a call to the sums in the transaction that inserts the call's row. So the
difference between the right value of a sum and its stored value stays the same, whatever writers add meanwhile. The
difference is read in one snapshot (`missing_sums`), and added later (`group_differences`), without a lock that writers
wait for.
Each step is a transaction that corrects some groups of one table, so nothing is added twice if the process ends between
two steps.

Two processes would add the same difference twice, so only the process that holds the lock `SUMMING` may do this.

May import `usage.upkeep.differing_sums`. `rebuild_totals` and the folder `label_sums` of `usage.upkeep` import this
folder.
"""

SUMMING = 0x73756D73  # the number of an advisory lock (`usage.database.lock`)
