"""Mends sums beside the writers of calls: adds to them what they lack.

Sums are only ever added to. A writer adds a call to the sums in the transaction that inserts the call's row; so the
difference between what a sum should be and what it is stays the same, whatever writers add meanwhile. It is read in one
snapshot (`missing_sums`) and added later (`group_differences`), without a lock on any table. Each step is a transaction
that makes some groups of one table right, so nothing is doubled if the process ends between two steps.

Two processes would add the same difference twice, so one at a time may mend sums: the one with the lock `SUMMING`.

Imports `usage.upkeep.differing_sums`; `rebuild_totals` and the folder `label_sums` there import this folder.
"""

SUMMING = 0x73756D73  # the number of an advisory lock (`usage.database.lock`)
