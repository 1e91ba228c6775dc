"""What the page *Usage* shows: what calls cost, for whom and for what, on whole days (UTC), beside the period before.

`spending_choice` (what the page's address asks for: days, groups, filters and order; and addresses with another
choice), `spending_content` (the rows and the chart, read from the sums by label, and where they lead),
`spending_csv` (the same rows as a file).

Imports the other modules of `usage.page_data`, and what they import.
"""
