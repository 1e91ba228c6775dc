"""Ends a call whose answer is relayed while it arrives: writes its row before the answer's last bytes are sent.

So a call whose caller has the whole answer is in the ledger, whatever happens afterwards. `relay` holds the last bytes
back until `StreamEnd.finish` has returned. An answer that breaks off, is cancelled or has no body ends here, too. Each
call ends once, in whichever way comes first.
"""

from __future__ import annotations

from proxyapi.call.call import Call
from proxyapi.exceptions import ProxyError
from proxyapi.upstream.answer import UpstreamAnswer
from usage.models import Outcome


class StreamEnd:
    """Recorder of the end of a call whose answer is passed to the caller while it arrives.

    The method that is called first writes the call's ledger row; later calls do not change the row. `is_broken` is True
    if the caller gets only a part of the answer, so that its connection must be cut.
    """

    def __init__(self, call: Call, answer: UpstreamAnswer) -> None:
        self.is_broken = False
        self._call = call
        self._answer = answer

    async def finish(self) -> None:
        """Ends a call whose answer has arrived whole, and waits until the call is recorded.

        If the answer states an error, the call's outcome is an error of upstream, else a success.
        """
        self._call.facts.mark_upstream_ended()
        await self._call.keep_bodies()
        outcome = Outcome.UPSTREAM_ERROR if self._call.answer.error is not None else Outcome.SUCCESS
        self._call.end(outcome, self._answer.status)
        await self._call.wait_until_recorded()

    async def finish_without_body(self) -> None:
        """Ends a HEAD call without reading upstream's answer, and waits until the call is recorded."""
        self._call.facts.mark_upstream_ended()
        self._call.end(Outcome.SUCCESS, self._answer.status)
        self._answer.close()
        await self._call.wait_until_recorded()

    def fail(self, error: ProxyError) -> None:
        """Ends the call with `error`, and marks the answer as broken: the caller gets only a part of it."""
        self.is_broken = True
        self._call.fail(error, status=self._answer.status)

    def close(self) -> None:
        """Closes upstream's answer. If the call has not ended yet, records that the caller has cancelled it."""
        self._call.end(Outcome.CLIENT_CANCELLED, self._answer.status)
        self._answer.close()
