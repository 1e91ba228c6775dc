"""The content of the page *Usage*: the cost of calls by label on whole days (UTC), compared with the period before.

`spending_choice` (reads days, groups, filters and order from the page's URL, and makes URLs with another choice),
`same_hours` (the cost of the period before by the same hour, while a period is not over), `spending_content` (the rows
and the chart, read from the sums by label, and their links), `spending_csv` (the same rows as a file).

May import the other modules of `usage.page_data`, and their imports.
"""
