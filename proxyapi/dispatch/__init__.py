"""From a request to its endpoint and back: what all endpoints have in common.

`asgi_handler` is the ASGI application: it gives ids, finds the route, calls the view and sends the answer. `base_view`
has the base class of all views, `call_view` that of the endpoints that go upstream: it has the order of a call, and
`form_view` that of those whose body may be a form. Their policies are named as in Django REST framework:
`authentication` (whose key), `permissions` (which routes and models) and `throttling` (which requests are counted);
`model_policy` checks the models that a request names. `caller_deadline` answers a caller whose own time limit is over
while its call goes on upstream. `base_urls` makes the hint in a 404 for a client with a wrong base URL.

Imports everything below (`proxyapi.__init__` has the order); not `simple_api`, `v1` or `pages`. A policy gets what it
needs from the request and does not know the view.
"""
