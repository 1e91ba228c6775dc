"""The URLs of the API and of the pages beside it; `proxyapi.dispatch.asgi_handler` serves them all."""

from __future__ import annotations

from django.urls import path, re_path

from proxyapi.management import api_views
from proxyapi.pages import docs, monitoring, reports
from proxyapi.pages import index as pages
from proxyapi.simple_api import audio, chat, health, responses
from proxyapi.v1 import views as v1

# OpenAI's ids are letters, digits, `_` and `-`; nothing else may become part of an upstream path.
RESPONSE_ID = r"(?P<response_id>[A-Za-z0-9_-]{1,256})"
# Of a key or a team: a name may have any printable characters, also a slash.
NAME = r"(?P<name>.{1,200})"

urlpatterns = [
    re_path(r"^v1/(?P<path>(?s:.*))$", v1.PassThroughView.as_view()),
    path("", pages.IndexView.as_view()),
    path("healthz", pages.LivenessView.as_view()),
    path("readyz", pages.ReadinessView.as_view()),
    path("docs", docs.DocsView.as_view()),
    path("openapi.json", docs.OpenAPIView.as_view()),
    path("openai", chat.OpenAIView.as_view()),
    path("openai2", responses.ResponsesView.as_view()),
    path("openai2/compact", responses.CompactView.as_view()),
    path("openai2/input_tokens", responses.InputTokensView.as_view()),
    re_path(rf"^openai2/{RESPONSE_ID}$", responses.ResponseView.as_view()),
    re_path(rf"^openai2/{RESPONSE_ID}/cancel$", responses.CancelView.as_view()),
    re_path(rf"^openai2/{RESPONSE_ID}/input_items$", responses.InputItemsView.as_view()),
    path("chatgpt", chat.ChatGPTView.as_view()),
    path("openai/audio/transcriptions", audio.TranscriptionsView.as_view()),
    path("embeddings", chat.EmbeddingsView.as_view()),
    path("health", health.HealthView.as_view()),
    path("health2", health.Health2View.as_view()),
    path("log", monitoring.LogView.as_view()),
    path("log_errors", monitoring.LogErrorsView.as_view()),
    path("metrics", reports.MetricsView.as_view()),
    path("usage", reports.UsageView.as_view()),
    path("api/keys", api_views.KeysView.as_view()),
    re_path(rf"^api/keys/{NAME}/rotate$", api_views.RotateKeyView.as_view()),
    re_path(rf"^api/keys/{NAME}/revoke$", api_views.RevokeKeyView.as_view()),
    re_path(rf"^api/keys/{NAME}$", api_views.KeyView.as_view()),
    path("api/teams", api_views.TeamsView.as_view()),
    re_path(rf"^api/teams/{NAME}/archive$", api_views.ArchiveTeamView.as_view()),
    re_path(rf"^api/teams/{NAME}/restore$", api_views.RestoreTeamView.as_view()),
    re_path(rf"^api/teams/{NAME}$", api_views.TeamView.as_view()),
    path("debug/runtime", monitoring.RuntimeView.as_view()),
    re_path(r"^(?P<path>(?s:.*))$", pages.NotFoundView.as_view()),
]
