"""From a request to its endpoint and back: what all endpoints have in common.

`handler` is the ASGI application: it gives ids, finds the route, calls the view and sends the answer. `view` has the
base classes of all endpoints and the order of a call. Its policies, named as in Django REST framework: `authentication`
(whose key), `permissions` (which routes and models), `throttling` (which requests are counted), and `model_policy` (the
models that a body names). `base_urls` hints in a 404 at the base URL that a client should have.

Imports everything below (`proxyapi.__init__` has the order); not `simple`, `v1` or `pages`. A policy gets what it needs
from the request and does not know the view.
"""
