"""Tables of sums: added up when the rows of calls are written, and read for any range of time.

`totals_rollup` adds the sums of a batch (`group_sums`) to them, in the transaction that writes the rows; `sum_tables`
has the columns of the tables and the statements for it; `summed_names` says which models and errors have sums of their
own; `histogram` counts latencies; `pruned_calls` finds out since when the rows are complete, so that sums can be
compared with them. `totals_reader` reads any range of time from months, days, hours and minutes, and `breakdown_reader`
the sums by model, route and outcome; `ranges` has the ranges of time that a page can show; `ranking` sorts what was
read by its cost. `report_reader` reads the numbers of `GET /usage`; those of the dashboard are read by
`usage.page_data.dashboard`. `unpriced_calls` lists the models whose calls have no price. The folder `labels` has the
sums by what calls were for: teams, owners, end users and tags.

Imports the models, `prices` and `money`, but nothing of the folders that write rows into the tables.
"""
