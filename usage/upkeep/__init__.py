"""Keeps the ledger correct and small: deletes old data, verifies the tables, and corrects them.

`months` makes the partitions of coming months. `retention` deletes rows and bodies that are older than their retention,
daily, in one process; `old_histograms` empties the histograms of old hours. `verify` proves that rows, sums, journal
and reservations agree (`differing_sums` and `wrong_totals` find the sums that do not). `rebuild_totals` mends the sums
by what they lack, which the folder `sum_mending` finds and adds; `repricing` computes the cost of calls again. The
folder `label_sums` does all of this for the sums by label, and bounds their names. The commands are `manage.py ledger
…`. `price_status` says how old the price lists are, and what they lack; `price_update` downloads a newer one
(`manage.py prices …`), of itself in `price_update_thread`. `periodic_thread` is the base class of the threads of the
shipper that do such work again and again.

Imports everything below (`usage.__init__` has the order).
"""
