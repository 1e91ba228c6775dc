"""Keeps the ledger correct and small: deletes old data, verifies the tables, and corrects them.

`months` makes the partitions of coming months. `retention` deletes rows and bodies that are older than their retention,
daily, in one process; `old_histograms` empties the histograms of old hours. `verify` checks that rows, sums, journal
and reservations agree (`differing_sums` and `wrong_totals` find wrong sums). `rebuild_totals` corrects the sums by
adding what is missing, which the folder `sum_mending` computes; `repricing` recomputes the cost of calls. The folder
`label_sums` does the same for the sums by label, and limits the number of their names. The commands are `manage.py
ledger …`. `price_status` finds the age of the price lists, and the models they lack; `price_update` downloads a newer
list (`manage.py prices …`), automatically in `price_update_thread`. `periodic_thread` has the base class of the
shipper's threads that do such work repeatedly.

May import the folders before it in the order of `usage.__init__`.
"""
