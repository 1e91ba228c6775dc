"""Reads the fields of a request that are meant for this gateway, and removes them from the request for upstream.

In the simple API, the fields `security_key`, `openai_api_key`, `project`, `organization`, `timeout` and `access_token`
may be in the body, the form or the query. This module also has the checks of other fields.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qsl, unquote_plus, urlencode

from django.http import QueryDict

from proxyapi.bodies.form_reader import field_path
from proxyapi.cached_settings import call_settings
from proxyapi.exceptions import BadRequest
from proxyapi.keys.callers import Caller
from proxyapi.keys.credentials import Credentials, caller_credentials

GATEWAY_FIELDS = frozenset({"security_key", "openai_api_key", "project", "organization", "timeout", "access_token"})
NEEDED_FIRST = GATEWAY_FIELDS - {"access_token"}  # say whose call it is, who pays, and how long it may take
QUERY_SECRETS = frozenset({"security_key", "access_token", "openai_api_key"})
PLAIN_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?(e[+-]?[0-9]{1,3})?", re.ASCII | re.IGNORECASE)
# A key, project or organization as a header value. The bound is above the length of any real one; there is a bound
# because such values are kept in caches, and are searched for in all that the ledger keeps.
HEADER_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")

T = TypeVar("T")


def upstream_body(data: Mapping[str, object]) -> dict[str, object]:
    """Returns the request's body for upstream, without the members meant for the gateway, such as `timeout`."""
    return {name: value for name, value in data.items() if name not in GATEWAY_FIELDS}


def upstream_query(query: QueryDict) -> str:
    """Returns the query string for upstream, without the fields that are meant for the gateway, such as `timeout`.

    The query is encoded again: its bytes may differ, and parameters with the same name stand next to each other.
    """
    pairs = [(name, value) for name, values in query.lists() if name not in GATEWAY_FIELDS for value in values]
    return urlencode(pairs)


def passed_query(raw_query: bytes) -> str:
    """Returns the query string to send upstream for a call to `/v1`: without secrets such as `security_key=…`.

    Other spellings of these names, such as `Security_Key[]`, are removed, too. A query without secrets stays unchanged;
    any other query is encoded again, so its bytes may differ.
    """
    if not raw_query:
        return ""
    text = raw_query.decode("latin-1")
    # Letter case, percent-encoding and brackets of a name do not matter, and fields end at `;` as well as at `&`:
    # nobody knows which of these spellings upstream reads, or writes to its log.
    pairs = re.split("[&;]", text)
    kept = [pair for pair in pairs if QUERY_SECRETS.isdisjoint(field_path(unquote_plus(pair.partition("=")[0])))]
    if len(kept) == len(pairs):
        return raw_query.decode("ascii", "replace")
    errors = "surrogateescape"
    return urlencode(parse_qsl("&".join(kept), keep_blank_values=True, errors=errors), errors=errors)


def credentials(data: Mapping[str, object], query: QueryDict, caller: Caller) -> Credentials:
    """Returns the upstream account that pays for a call of the simple API: its API key, project and organization.

    * The API key is `openai_api_key` in the call's body or query; else the one stored for the caller; else the one in
      the settings.
    * `project` and `organization` are those in the call's body or query. A missing one comes from the settings, but
      only if the API key does, too.

    Raises:
        BadRequest: the key, the project or the organization in the call is not 1 to 4096 printable ASCII characters
            without spaces.
        UpstreamKeyMissing: there is no upstream key.
    """
    api_key = _header_field(data, query, "openai_api_key")
    project = _header_field(data, query, "project")
    organization = _header_field(data, query, "organization")
    if api_key:
        return Credentials(api_key, project, organization)
    # The configured project and organization belong to the account of the configured key, and go with that key only.
    account = caller_credentials(caller)
    if not project and not organization:
        return account
    return Credentials(account.api_key, project or account.project, organization or account.organization)


def deadline(data: Mapping[str, object], query: QueryDict) -> float:
    """Returns the time, on the event loop's clock, at which a call must have ended: `REQUEST_TIMEOUT` from now.

    The request's field `timeout`, in milliseconds, can set an earlier time.

    Raises:
        BadRequest: `timeout` is not a positive number.
    """
    given = _given(data, query, "timeout")
    seconds = call_settings().REQUEST_TIMEOUT
    if given not in (None, ""):
        try:
            wanted = float(str(given)) / 1000 if PLAIN_NUMBER.fullmatch(str(given)) else math.nan
        except ValueError:  # an integer with more digits than `str` accepts
            wanted = math.nan
        if not wanted > 0:
            raise BadRequest("timeout must be a positive number of milliseconds.", param="timeout")
        seconds = min(wanted, seconds)
    return asyncio.get_running_loop().time() + seconds


def gives_timeout(data: Mapping[str, object], query: QueryDict) -> bool:
    """Returns whether the body or query of a call to the simple API sets a time limit by the field `timeout`."""
    return _given(data, query, "timeout") not in (None, "")


def require(data: Mapping[str, object], name: str, kind: type[T] | tuple[type[T], ...], words: str) -> T:
    """Returns the value of the required field `name` of a request's body, after checking its type.

    `words` describe the expected value for the error's message, such as "a non-empty string".

    Raises:
        BadRequest: the field is missing, null, empty, zero, a boolean or not of the type `kind`; the error's `param`
            names the field.
    """
    value = data.get(name)
    if value is None:
        raise BadRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    if not isinstance(value, kind) or isinstance(value, bool) or not value:
        raise BadRequest(f"Invalid '{name}': expected {words}.", param=name, code="invalid_type")
    return value


def check_number(data: Mapping[str, object], name: str, low: float, high: float, *, whole: bool = False) -> None:
    """Checks an optional field of a request's body: a number from `low` to `high`, an integer if `whole` is true.

    A missing field and null are accepted.

    Raises:
        BadRequest: the field has another value; the error's `param` names the field.
    """
    value = data.get(name)
    if value is None:
        return
    kinds = int if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:
        bounds = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
        words = "a whole number" if whole else "a number"
        raise BadRequest(f"Invalid '{name}': expected {words} {bounds}.", param=name, code="invalid_value")


def _given(data: Mapping[str, object], query: QueryDict, name: str) -> object:
    """Returns a field's value from the request's body, or else from the query; None if it is missing in both."""
    value = data.get(name)
    return query.get(name) if value is None and query else value


def _header_field(data: Mapping[str, object], query: QueryDict, name: str) -> str | None:
    """Returns the value of a field, such as `organization`, that goes into a header to upstream.

    It is taken from the body, or else from the query. Returns None if the field is missing or empty.

    Raises:
        BadRequest: the value is not 1 to 4096 printable ASCII characters without spaces.
    """
    value = _given(data, query, name)
    if value in (None, ""):
        return None
    if not isinstance(value, str) or not HEADER_TOKEN.fullmatch(value):
        raise BadRequest(f"Invalid '{name}': expected at most 4096 printable ASCII characters, no spaces.", param=name)
    return value
