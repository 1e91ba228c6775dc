"""Sums beside the rows: added up when rows are written, read for any stretch of time.

`rollups` adds to them in the transaction of the rows; `summed_names` says which models and errors have sums of their
own; `histogram` is how latencies are summed; `pruned` knows since when the rows are complete, so that sums can be
compared with them. `totals` reads any stretch of time from days, hours and minutes; `ranges` is a stretch of time that
a page can show. `dashboard_data` is what the dashboard is made from, `report` what `GET /usage` answers.

Imports `usage.answers.tokens` and the models; not the way of rows into the tables.
"""
