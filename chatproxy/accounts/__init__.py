"""The accounts of people: users, groups, and the rights that they give.

`grants` has the rule that nobody grants a right that they lack, and `accounts_admin` the pages of users and groups,
which keep it.

Imports `usage`; not `http` or `processes`.
"""
