"""The issuer of single sign-on, as django-allauth sees it: its endpoints, and the id of a person's account there."""

from __future__ import annotations

import hashlib
import time

from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

PROVIDER_ID = "sso"  # a part of the address to which the issuer sends people back
DISCOVERY_SECONDS = 300.0  # how long the description of the issuer is kept in memory
FAILURE_SECONDS = 5.0  # how long an issuer that did not answer is not asked again: each who waits for it holds a thread


class Issuer(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]  # the library has no types
    """The endpoints of the issuer (single sign-on), as the issuer's published description names them.

    The description is requested at most once in `DISCOVERY_SECONDS`.
    """

    # A stranger who opens the sign-in again and again would otherwise cause a request to the issuer for each.
    _known: tuple[float, str, dict[str, object]] | None = None
    _failed: tuple[float, str] | None = None  # when the last request has failed, and for which address

    @property
    def openid_config(self) -> dict[str, object]:
        """The description that the issuer publishes about itself (OpenID Connect Discovery 1.0), cached for a while.

        Raises:
            requests.RequestException, ValueError: the issuer does not answer, or sends no JSON.
            OAuth2Error: the issuer has failed in this way within the last `FAILURE_SECONDS`, and was not asked again.
        """
        url = self.get_provider().server_url
        known, failed = Issuer._known, Issuer._failed
        if known is not None and known[1] == url and time.monotonic() - known[0] <= DISCOVERY_SECONDS:
            return known[2]
        if failed is not None and failed[1] == url and time.monotonic() - failed[0] <= FAILURE_SECONDS:
            raise OAuth2Error("the issuer has not answered a moment ago")
        try:
            found: dict[str, object] = super().openid_config
        except Exception:
            Issuer._failed = (time.monotonic(), url)
            raise
        Issuer._known = (time.monotonic(), url, found)
        return found


class IssuerProvider(OpenIDConnectProvider):  # type: ignore[misc]  # the library has no types
    """The provider of django-allauth for the one issuer that the settings name."""

    # Named by `SOCIALACCOUNT_PROVIDERS`.
    oauth2_adapter_class = Issuer
    pkce_enabled_default = True

    def extract_uid(self, data: dict[str, object]) -> str:
        """Returns the id of a person's account: a digest of the issuer and of the person's id there (`sub`).

        Raises:
            PermissionDenied: the issuer sent no ID token, or one without a subject.
        """
        # The subject alone is unique only for one issuer: with another OIDC_ISSUER, the same subject is another person.
        token = data.get("id_token")
        if not isinstance(token, dict) or not isinstance(token.get("sub"), str) or not token["sub"]:
            raise PermissionDenied("no ID token")
        issuer = str(token.get("iss", "")).rstrip("/")
        return hashlib.sha256(f"{issuer} {token['sub']}".encode()).hexdigest()

    def get_scope_from_request(self, request: HttpRequest) -> list[str]:
        """Returns the scopes to request from the issuer. Unlike in the library, a query parameter cannot add any."""
        return list(self.get_scope())

    def get_auth_params_from_request(self, request: HttpRequest, action: str) -> dict[str, str]:
        """Returns the parameters to add to a sign-in request; ignores query parameters, which the library adds."""
        return dict(self.get_auth_params())


provider_classes = [IssuerProvider]
