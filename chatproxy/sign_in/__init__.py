"""How people sign in: with a password and perhaps a second factor, or by single sign-on (OpenID Connect).

`password_login` is the login page of all people, whether they are staff or not. Everything else here uses the library
django-allauth, and is imported only if `OIDC_ISSUER` or `SECOND_FACTOR` is set (`chatproxy.settings.USES_ALLAUTH`).
`urls` has the routes below `/admin/accounts/`, and `views` our own views for them. `library_hooks` and `second_factors`
have the methods by which the library asks about accounts and second factors, `code_forms` the forms for codes of second
factors, and `factor_log` records who changes a factor of their own; `library_admin` shows the library's tables in the
admin. Single sign-on, in the order of a login: `provider` is the issuer (the service at which people sign in) as the
library sees it. `claims` reads the issuer's statements about a person, and refuses uncertain ones. `single_sign_on`
decides whether the person may sign in, and gives the account the groups and teams that the claims name.

Accounts are made by an administrator or by single sign-on; strangers cannot register.

May import `chatproxy.accounts` and `proxyapi`, but not `page_protection`, which counts the attempts.
"""
