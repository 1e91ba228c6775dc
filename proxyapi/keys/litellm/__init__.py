"""Takes over the keys and teams of a LiteLLM proxy, for `manage.py import litellm`.

In this order: `tables` reads its rows, `team_proposals` and `key_proposals` convert them to proposals for teams and
keys of ours, with `conversion` for what both have: limits, budgets and lists of models. The command makes them.

A right that has no equal here becomes narrower, never wider: a budget for a week becomes one for a month, and a key
that may use nothing is switched off. For each difference, the person who takes the keys over gets a remark.
"""
