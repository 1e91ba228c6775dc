from django.apps import AppConfig


class ProxyApiConfig(AppConfig):
    name = "proxyapi"
    verbose_name = "Proxy API"
