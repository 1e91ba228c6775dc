"""Reads what the page *Usage* shows of the sums by label: each group beside the period before, and day by day.

`compared_reader` reads the sums of a period with the dollars of the period before, by the SQL in `compared_sql`;
`daily_costs` reads the dollars of each day.

May import the modules of `usage.sums.labels`.
"""
