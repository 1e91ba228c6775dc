"""The accounts of people: users, groups, and the rights that they give.

`grants` has the rule that nobody grants a right that they lack, and `accounts_admin` the pages of users and groups,
which keep it. `from_claims` gives an account the groups and teams that the issuer of single sign-on names.

Imports `proxyapi` and `usage`; not `http` or `processes`.
"""
