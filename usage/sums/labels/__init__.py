"""Sums by what calls were for: team, owner, end user and tags, with the key, model and route, by day and month (UTC).

One table, `LabelTotal`, has them. Its rows with an empty `label` count every call once. Those with the label `end_user`
or `tag:project` count the calls that have this label, by its value. So any of team, owner, key, model, route and day
can be grouped together, and with one label besides.

`tables` has the table's columns and the statement that adds to it; `label_rollup` adds up a batch of rows for it;
`label_reader` reads it, in any groups; `completeness` finds out whether it has all calls; `tag_names` reads the names
of tags in it; `compared_reader` reads it beside the period before, and day by day; `usage_report` reads the query of
`GET /usage`, and makes its answer. `usage.upkeep.label_sums` bounds the names, verifies the table and rebuilds it.

**Names are bounded.** Callers choose end users and tags. While a day or month goes on, each value has sums of its own.
When it has ended, the costliest keep theirs, and the rest are folded into one value, `OTHERS`. Of too many names of
tags, the cheapest have no sums any more, and `CLOSED` marks that. What is added or subtracted later goes to the row in
which it is counted: to a name with sums, else to `OTHERS`. So nothing but the table says how a period is folded, and
`ledger verify` compares it by the same rule (`tables.counted_groups`).

Imports `usage.models` and the modules of `usage.sums`.
"""
