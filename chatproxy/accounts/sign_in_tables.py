"""Deletes the rows about users in the tables of django-allauth, even if the library is not installed now.

The tables stay when single sign-on or second factors are switched off again. Django then does not know the tables, and
the database refuses to delete a user to whom one of their rows refers.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection

# For each table the statement that deletes the rows of the users %s. Rows that refer to others come first.
STATEMENTS = {
    "account_emailconfirmation": (
        "DELETE FROM account_emailconfirmation WHERE email_address_id IN"
        " (SELECT id FROM account_emailaddress WHERE user_id = ANY(%s))"
    ),
    "account_emailaddress": "DELETE FROM account_emailaddress WHERE user_id = ANY(%s)",
    "socialaccount_socialtoken": (
        "DELETE FROM socialaccount_socialtoken WHERE account_id IN"
        " (SELECT id FROM socialaccount_socialaccount WHERE user_id = ANY(%s))"
    ),
    "socialaccount_socialaccount": "DELETE FROM socialaccount_socialaccount WHERE user_id = ANY(%s)",
    "mfa_authenticator": "DELETE FROM mfa_authenticator WHERE user_id = ANY(%s)",
}


def delete_sign_in_rows(user_ids: Collection[int]) -> None:
    """Deletes the rows about users in the tables of django-allauth: addresses, single sign-on, second factors.

    Tables that do not exist are skipped.
    """
    with connection.cursor() as cursor:
        for table, statement in STATEMENTS.items():
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [table])
            [(exists,)] = cursor.fetchall()
            if exists:
                cursor.execute(statement, [list(user_ids)])
