"""The issuer of single sign-on, as django-allauth sees it: where it is, and which account a person has there."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

PROVIDER_ID = "sso"  # a part of the address to which the issuer sends people back
DISCOVERY_SECONDS = 300.0  # how long the description of the issuer is kept in memory


class Issuer(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]  # the library has no types
    """The issuer's endpoints, from its description, which is asked for once in `DISCOVERY_SECONDS`."""

    # A stranger who opens the sign-in again and again would otherwise cause a request to the issuer for each.
    _known: tuple[float, str, dict[str, Any]] | None = None

    @property
    def openid_config(self) -> dict[str, Any]:
        """The issuer's description (OpenID Connect Discovery 1.0)."""
        url = self.get_provider().server_url
        known = Issuer._known
        if known is None or known[1] != url or time.monotonic() - known[0] > DISCOVERY_SECONDS:
            known = Issuer._known = (time.monotonic(), url, super().openid_config)
        return known[2]


class IssuerProvider(OpenIDConnectProvider):  # type: ignore[misc]  # the library has no types
    """The provider of django-allauth for the one issuer that the settings name."""

    # Named by `SOCIALACCOUNT_PROVIDERS`.
    oauth2_adapter_class = Issuer
    pkce_enabled_default = True

    def extract_uid(self, data: dict[str, Any]) -> str:
        """Returns the id of a person's account: a digest of the issuer and of the person's subject there.

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
        """Returns the scopes that are asked for; unlike the library's, a query parameter adds none."""
        return list(self.get_scope())

    def get_auth_params_from_request(self, request: HttpRequest, action: str) -> dict[str, str]:
        """Returns further parameters for the issuer; unlike the library's, a query parameter adds none."""
        return dict(self.get_auth_params())


provider_classes = [IssuerProvider]
