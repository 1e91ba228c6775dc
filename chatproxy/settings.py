"""Django's settings, from the values that `chatproxy.configuration.setting_reader` reads from the environment.

Over 300 lines, since Django reads all settings from one module.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from chatproxy import logs
from chatproxy.configuration import setting_reader
from chatproxy.configuration.database_settings import database_settings
from chatproxy.configuration.sign_in_settings import single_sign_on
from chatproxy.postgres.bundled import BundledPostgres, ignore_libpq_variables
from chatproxy.version import VERSION as VERSION

BASE_DIR = setting_reader.BASE_DIR

_values = setting_reader.load()

# The gateway.
OPENAI_API_KEY: str | None = _values["OPENAI_API_KEY"]
OPENAI_PROJECT_KEY: str | None = _values["OPENAI_PROJECT_KEY"]
OPENAI_ORGANIZATION: str | None = _values["OPENAI_ORGANIZATION"]
OPENAI_BASE_URL: str = _values["OPENAI_BASE_URL"]
REGIONAL_PRICES: bool | None = _values["REGIONAL_PRICES"]
SECURITY_KEY: str | None = _values["SECURITY_KEY"]
ACCESS_TOKEN: str | None = _values["ACCESS_TOKEN"]
DEFAULT_MODEL: str = _values["DEFAULT_MODEL"]
REQUEST_TIMEOUT: float = _values["REQUEST_TIMEOUT"]
DRAIN_SECONDS: float = _values["DRAIN_SECONDS"]
FIRST_BYTE_TIMEOUT: float | None = _values["FIRST_BYTE_TIMEOUT"]
IDLE_TIMEOUT: float | None = _values["IDLE_TIMEOUT"]
MAX_PARALLEL_REQUESTS: int = _values["MAX_PARALLEL_REQUESTS"]
MAX_CONNECTIONS: int | None = _values["MAX_CONNECTIONS"]
MAX_CONNECTIONS_PER_ADDRESS: int | None = _values["MAX_CONNECTIONS_PER_ADDRESS"]
INVALID_KEYS_PER_MINUTE: int = _values["INVALID_KEYS_PER_MINUTE"]
MAX_BODY_BYTES: int = _values["MAX_BODY_BYTES"]
MAX_UPLOAD_BYTES: int = _values["MAX_UPLOAD_BYTES"]
MAX_FORM_BYTES: int = _values["MAX_FORM_BYTES"]
STRANGER_BYTES: int = _values["STRANGER_BYTES"]
SSE_KEEPALIVE_SECONDS: float = _values["SSE_KEEPALIVE_SECONDS"]
INJECT_STREAM_USAGE: bool = _values["INJECT_STREAM_USAGE"]
BACKGROUND_POLL_SECONDS: float = _values["BACKGROUND_POLL_SECONDS"]
PRICES_UPDATE: bool = _values["PRICES_UPDATE"]
PRICES_URL: str | None = _values["PRICES_URL"]
PROJECT_SERVICE_TIER: str = _values["PROJECT_SERVICE_TIER"]
V1_ROUTES: list[str] = _values["V1_ROUTES"]
ACCESS_LOG: bool = _values["ACCESS_LOG"]
METADATA_TAGS: list[str] = _values["METADATA_TAGS"]
LOG_BODIES: str = _values["LOG_BODIES"]
LOG_BODY_BYTES: int = _values["LOG_BODY_BYTES"]
AUDIT_BODY_VIEWS: bool = _values["AUDIT_BODY_VIEWS"]
MY_USAGE_BODIES: bool = _values["MY_USAGE_BODIES"]
RETENTION_DAYS: int = _values["RETENTION_DAYS"]
BODY_RETENTION_DAYS: int = _values["BODY_RETENTION_DAYS"]
JOURNAL_SYNC: Literal["interval", "always", "off"] = _values["JOURNAL_SYNC"]
JOURNAL_RESERVE_BYTES: int = _values["JOURNAL_RESERVE_BYTES"]
REDIS_URL: str | None = _values["REDIS_URL"]

# The server.
HOST: str = _values["HOST"]
PORT: int = _values["PORT"]
WEB_CONCURRENCY: int = _values["WEB_CONCURRENCY"]
DATA_DIR: Path = setting_reader.data_dir(_values)
TRUSTED_PROXIES: list[str] = _values["TRUSTED_PROXIES"]
ROOT_PATH: str | None = _values["ROOT_PATH"]
PUBLIC_URL: str | None = _values["PUBLIC_URL"]
EMAIL_URL: str | None = _values["EMAIL_URL"]
EMAIL_FROM: str = _values["EMAIL_FROM"]
ADMIN_USERNAME: str = _values["ADMIN_USERNAME"]
ADMIN_PASSWORD: str | None = _values["ADMIN_PASSWORD"]

OIDC_ISSUER: str | None = _values["OIDC_ISSUER"]
OIDC_NAME: str = _values["OIDC_NAME"]
OIDC_DOMAINS: list[str] = _values["OIDC_DOMAINS"]
OIDC_ROLES_CLAIM: str | None = _values["OIDC_ROLES_CLAIM"]
OIDC_ROLES: dict[str, str] | None = _values["OIDC_ROLES"]
OIDC_TEAMS_CLAIM: str | None = _values["OIDC_TEAMS_CLAIM"]
SECOND_FACTOR: bool = _values["SECOND_FACTOR"]

# Django.
DEBUG: bool = _values["DEBUG"]
# A process that `serve` did not prepare gets a random key: safe, but its sessions end with the process.
SECRET_KEY: str = _values["DJANGO_SECRET_KEY"] or secrets.token_urlsafe(50)
# The secret with which callers' keys are digested and sealed (proxyapi.sealing). None: this process cannot make keys.
KEY_SECRET: str | None = _values["KEY_ENCRYPTION_KEY"] or _values["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS: list[str] = _values["ALLOWED_HOSTS"]
CSRF_TRUSTED_ORIGINS: list[str] = _values["CSRF_TRUSTED_ORIGINS"]
DEFAULT_EXCEPTION_REPORTER = "chatproxy.page_protection.debug_pages.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "chatproxy.page_protection.debug_pages.AllowListFilter"
ROOT_URLCONF = "chatproxy.urls"
ASGI_APPLICATION = "chatproxy.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False

INSTALLED_APPS = [
    "unfold",  # before django.contrib.admin, whose templates it overrides
    "django.contrib.admin.apps.SimpleAdminConfig",  # `chatproxy.urls` imports the admin's modules
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "chatproxy",
    "proxyapi",
    "usage",
]

# The middleware of the admin and of "My usage". Calls of the API do not pass it: see proxyapi.dispatch.asgi_handler.
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "chatproxy.page_protection.response_headers.AdminHeaders",
    "chatproxy.page_protection.debug_pages.LocalDebugPages",
    "chatproxy.page_protection.database_unavailable.DatabaseUnavailablePages",
    "chatproxy.page_protection.static_files.StaticFiles",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "chatproxy.page_protection.page_pace.RememberSignedIn",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "chatproxy.page_protection.login_throttle.LoginThrottle",
]

# Signing in with more than a password (`chatproxy.sign_in`). Without these settings, nothing of the library is
# imported, and its tables are not made.
USES_ALLAUTH = SECOND_FACTOR or OIDC_ISSUER is not None
if USES_ALLAUTH:
    INSTALLED_APPS += ["allauth", "allauth.account", "allauth.socialaccount"]
    INSTALLED_APPS += ["allauth.socialaccount.providers.openid_connect"] if OIDC_ISSUER else []
    INSTALLED_APPS += ["allauth.mfa"] if SECOND_FACTOR else []
    MIDDLEWARE.append("allauth.account.middleware.AccountMiddleware")
ACCOUNT_ADAPTER = "chatproxy.sign_in.library_hooks.Accounts"
ACCOUNT_EMAIL_VERIFICATION = SOCIALACCOUNT_EMAIL_VERIFICATION = "none"  # the issuer has verified it, or nobody has
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]  # not a code by e-mail
SOCIALACCOUNT_ADAPTER = "chatproxy.sign_in.single_sign_on.SingleSignOn"
SOCIALACCOUNT_PROVIDERS = single_sign_on(_values)
MFA_ADAPTER = "chatproxy.sign_in.second_factors.SecondFactors"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "chatproxy"
MFA_FORMS = {
    "authenticate": "chatproxy.sign_in.code_forms.SignInCode",
    "reauthenticate": "chatproxy.sign_in.code_forms.RepeatedCode",
}

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            # As Django has them by default, but for the templates of apps, in which those of the theme are mended.
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    [
                        "django.template.loaders.filesystem.Loader",
                        "chatproxy.page_protection.theme_templates.ThemeTemplates",
                    ],
                )
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

DATABASE_IS_BUNDLED: bool = _values["DATABASE_URL"] is None
if DATABASE_IS_BUNDLED:
    ignore_libpq_variables()
# The bundled PostgreSQL runs only while `manage.py serve` does.
DATABASES = {"default": database_settings(_values["DATABASE_URL"] or BundledPostgres(DATA_DIR).url)}

PASSWORD_MIN_LENGTH = 12
PASSWORD_HASHERS = [
    "chatproxy.page_protection.password_hashing.Scrypt",
    "chatproxy.page_protection.password_hashing.PBKDF2",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": PASSWORD_MIN_LENGTH},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"  # after a login at an address without `next`
# The admin's cookies are sent over TLS only, if all its origins are https. A cookie that is set over TLS is always sent
# over TLS only (chatproxy.page_protection.response_headers).
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = bool(CSRF_TRUSTED_ORIGINS) and all(
    origin.startswith("https:") for origin in CSRF_TRUSTED_ORIGINS
)
# Not Django's usual names: another application of this host, at another port or path, may use those.
SESSION_COOKIE_NAME = "chatproxy_session"
CSRF_COOKIE_NAME = "chatproxy_csrf"
SESSION_ENGINE = "chatproxy.page_protection.signed_sessions"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# TLS ends at the proxy in front, if there is one, which adds redirects and HSTS. Without a proxy, the admin on
# http://localhost needs cookies that are sent without TLS.
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008", "security.W012", "security.W016"]

STATIC_URL = "/static/"
# Static files are served from the installed packages, so there is no step that collects them.
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},  # Django wants one; nothing is uploaded
    "staticfiles": {"BACKEND": "chatproxy.page_protection.static_files.StaticLinks"},
}

# Every origin is allowed, without cookies. `*` does not cover Authorization (Fetch standard), so that is named.
CORS_ALLOW_ALL_ORIGINS = True
CORS_URLS_REGEX = r"^(?!/api/)"  # scripts manage keys, pages of other origins do not
CORS_ALLOW_HEADERS = ["*", "authorization"]
CORS_EXPOSE_HEADERS = ["*"]

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [],
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}

SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "chatproxy",
    "VERSION": VERSION,
    "DESCRIPTION": "A self-hosted gateway for the OpenAI APIs.",
    "TAGS": [{"name": "simple API"}, {"name": "server"}],
    "POSTPROCESSING_HOOKS": ["proxyapi.v1.openapi.add_paths"],
}

UNFOLD = {
    "LOGIN": {"form": "chatproxy.sign_in.password_login.PersonForm"},
    "SITE_TITLE": "chatproxy",
    "SITE_HEADER": "chatproxy",
    "SITE_URL": "usage.admin_pages.base_url.home",
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "usage.admin_pages.base_url.icon"}],
    "SHOW_HISTORY": False,
    # Blue, as the pages' own colours are (usage/static/usage/pages.css).
    "COLORS": {
        "primary": {
            "50": "#eff5fc",
            "100": "#dbe8f8",
            "200": "#bcd4f2",
            "300": "#8fb8e9",
            "400": "#7fb2ff",
            "500": "#4f8fdd",
            "600": "#2563b8",
            "700": "#1f5297",
            "800": "#1e467c",
            "900": "#1d3c67",
            "950": "#142744",
        },
    },
    "DASHBOARD_CALLBACK": "usage.admin_pages.dashboard.show",
    # What Ctrl+K finds.
    "COMMAND": {
        "search_models": ["proxyapi.accesskey", "proxyapi.team"],
        "search_callback": "usage.admin_pages.navigation.find",
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "usage.admin_pages.navigation.sections",
    },
}

LOGGING = logs.config(
    {
        # These would log a line for each upstream call, with nothing in it that the ledger does not have.
        **{name: {"level": "WARNING"} for name in ("httpx2", "openai")},
        # A client that sends a wrong Host gets a 400; a traceback for each would help nobody.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    }
)
