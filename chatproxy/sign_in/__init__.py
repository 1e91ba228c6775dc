"""How people sign in: with a password and perhaps a second factor, or by single sign-on (OpenID Connect).

`password_login` is the login page of all people, whether they are staff or not. Everything else here uses the library
django-allauth, and is imported only if `OIDC_ISSUER` or `SECOND_FACTOR` is set (`chatproxy.settings.USES_ALLAUTH`):
`urls` has the routes below `/admin/accounts/`, `views` what is ours of them; `library_hooks` and `second_factors` have
what the library asks about accounts and second factors, `library_admin` its tables in the admin. Of single sign-on, in
the order of a login: `provider` is the issuer as the library sees it, `claims` reads what it says of a person and
refuses what is not certain, and `single_sign_on` decides whether the person may sign in, and gives the account the
groups and teams that the claims name.

Accounts are made by an administrator or by single sign-on; strangers cannot register.

Imports `chatproxy.accounts` and `proxyapi`; not `page_protection`, which counts the attempts.
"""
