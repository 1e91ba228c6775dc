"""Keeps the ledger whole and small: deletes what is past its time, verifies, corrects.

`retention` deletes rows and bodies past their time, daily, in one process. `verify` proves that rows, sums, journal and
reservations agree. `rebuild_totals` replaces the totals by new ones, `repricing` prices calls again. The commands are
`manage.py ledger …`.

Imports everything below (`usage.__init__` has the order).
"""
