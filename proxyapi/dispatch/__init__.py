"""Takes each request to its endpoint and sends the answer back: the steps that are the same for all endpoints.

`asgi_handler` is the ASGI application: it gives ids, finds the route, calls the view and sends the answer. `base_view`
has the base class of all views. `call_view` has the base class for endpoints that go upstream, and the order of a call;
`form_view` has the base class for endpoints that accept forms. The policies are named as in Django REST framework:
`authentication` (whose key), `permissions` (which routes and models) and `throttling` (which requests are counted).
`model_policy` checks the models that a request names. `caller_deadline` answers a caller whose own time limit is over
while the call goes on upstream. `base_urls` makes the hint in a 404 for a client with a wrong base URL.

May import the folders before it in the order of `proxyapi.__init__`; not `simple_api`, `v1` or `pages`. A policy gets
what it needs from the request, and does not know the view.
"""
