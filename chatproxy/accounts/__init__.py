"""The accounts of people: users, groups, and the rights that they give.

`grants` has the rule that nobody grants a right that they lack, and `accounts_admin` the pages of users and groups,
which keep it. `token_admin` has the pages of API tokens, with which people let scripts manage keys and teams.
`from_claims` gives an account the groups and teams that the issuer of single sign-on names. `sign_in_tables` deletes a
user's rows in the tables of single sign-on and second factors.

Imports `proxyapi` and `usage`; not `http` or `processes`.
"""
