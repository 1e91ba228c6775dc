"""Sums of calls by label (team, owner, end user and tags), and by key, model and route, per day and month (UTC).

They are in the table `LabelTotal`. Its rows with an empty `label` count every call once. Rows with the label `end_user`
or, for example, `tag:project` count the calls that have this label, by its value. So calls can be grouped by any of
team, owner, key, model, route and day together, and by one label in addition. Triggers of the table add up all values
of a label in `LabelGrandTotal`, one row for each day or month: for reports that need no value.

`label_tables` has the table's columns and the statement that adds to it. `label_rollup` adds up a batch of rows for the
table. `label_groups` names the groups and filters of reports. `label_reader` reads the table in any groups, and
`tag_names` the names of its tags; `span_ranges` chooses the days and months to read, `sum_rows` the rows of them, and
`combined_reader` reads sums by two labels together, from a table of its own, in which `changed_days` marks days that
are not right any more. `comparing` (a folder) compares a period with the one before. `completeness` finds out whether
the table has all calls. `usage_report` parses the query of `GET /usage`, and makes the answer.
`usage.upkeep.label_sums` limits the number of names, verifies the table and corrects it.

**The number of names is limited**, because callers choose end users and tags. While a day or month goes on, each value
has sums of its own. When the period has ended, the costliest values keep their sums, and the sums of the others are
added up ("folded") under one value, `OTHERS`. If there are too many names of tags, the cheapest lose their sums, which
`CLOSED` marks. Later additions and subtractions go to a name with sums, or else to `OTHERS`. So only the table itself
shows how a period is folded, and `ledger verify` compares it by the same rule (`label_tables.counted_groups`).

May import `usage.models`, `usage.prices` and the modules of `usage.sums`.
"""
