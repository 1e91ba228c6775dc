"""The accounts of people: users, groups, and the rights that they give.

`grants` has the rule that people can grant only rights that they have; `accounts_admin` has the pages of users and
groups, which obey the rule. `token_admin` has the pages of API tokens, with which people let scripts manage keys and
teams. `from_claims` gives an account the groups and teams that the issuer of single sign-on names (the issuer is the
service at which people sign in). `own_changes` records in the audit log what people change themselves. `sign_in_tables`
deletes a user's rows in the tables of single sign-on and second factors.

May import `proxyapi` and `usage`, but not `http` or `processes`.
"""
