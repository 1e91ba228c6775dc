"""What keeps the ledger whole and small: forgetting, proof and correction.

`retention` deletes rows and bodies past their time, daily, in one process. `verify` proves that rows, sums, journal and
reservations agree. `rebuild_totals` adds the totals up anew, `repricing` computes dollars anew. The commands are
`manage.py ledger …`.

Imports everything below (`usage.__init__` has the order).
"""
