"""The base class of views, on both APIs, that pass a form to upstream while it arrives."""

from __future__ import annotations

from proxyapi.bodies import large_bodies, model_places
from proxyapi.bodies.billing_parameters import count_pictures, read_asked_usage
from proxyapi.bodies.labels import END_USER_FIELDS
from proxyapi.call.uploads import FormUpload
from proxyapi.dispatch import model_policy
from proxyapi.dispatch.call_view import CallView
from proxyapi.limits.output_limits import by_plain_name
from proxyapi.object_owners import ownership_check
from proxyapi.routes import Route


class FormView(CallView):
    """Base class of the views that may pass a form upstream while it still arrives from the caller."""

    async def admit_form(self, form: FormUpload, route: Route, query: str) -> None:
        """Checks a whole form before its end goes upstream, and reserves dollars for the call.

        * Stores what the ledger row needs of the form, such as its model and its labels.
        * Checks that the key may use the models and objects that are named in the form. Models may also be named in
          `query`, the query string of the request.
        * Reserves dollars for the call, and writes the call's begin record to the journal again, with the reserved
          dollars.

        Raises the errors of `model_policy.check_models`, `ownership_check.check_form`, `reserve` and
        `Call.begin_reserved`; after an error, the end of the form must not be sent.
        """
        # The whole form has been read, but its end has not been sent: upstream cannot have acted on it.
        call, caller = self.call, self.caller
        call.facts.model = next(iter(form.field("model")), "")
        call.facts.stream = "true" in map(str.lower, form.field("stream"))
        fields = by_plain_name(form.sizes().fields)
        call.facts.read_body_labels({name: form.field(name) for name in END_USER_FIELDS})
        call.facts.asked_usage = read_asked_usage(route, fields)
        call.answer.expected_pictures = count_pictures(route, fields)
        parts = form.passing_parts
        if caller.model_ceilings:
            size = sum(len(part.content) for part in parts)
            named = await large_bodies.run(size, lambda: model_places.in_fields(form.fields()))
            model_policy.check_models(route, "POST", named + model_places.in_query(query), caller)
            model_policy.check_implied("POST", model_places.implied_by_fields(form.fields()), caller)
        call.created_objects.exclude(await ownership_check.check_form(parts, caller))
        await self.reserve("POST", route, form.sizes())
        call.begin_reserved()
