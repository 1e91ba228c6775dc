"""Owns the ledger's tables: `calls`, `sums`, `label_sums`, `money` (budgets and prices) and `state` (all else).

Other modules import them from here, where Django looks for them.
"""

from usage.models.calls import (
    CALLED_MODEL,
    FAILED,
    FAILED_STATUS,
    NEEDS_PRICE,
    CostKind,
    Outcome,
    Request,
    RequestBody,
    UsageSource,
)
from usage.models.label_sums import LabelCombination, LabelGrandTotal, LabelPeriod, LabelTotal
from usage.models.money import (
    Hold,
    ModelPrice,
    TeamDay,
    UsageDay,
)
from usage.models.state import (
    CountedResponse,
    ErrorState,
    KnownError,
    KnownName,
    LedgerState,
    PendingResponse,
    SavedView,
    StoredObject,
)
from usage.models.sums import (
    Dimension,
    ErrorTotal,
    Span,
    SummedName,
    UsageBreakdown,
    UsageHour,
    UsagePeak,
    UsageTotal,
)

__all__ = [
    "CALLED_MODEL",
    "FAILED",
    "FAILED_STATUS",
    "NEEDS_PRICE",
    "CostKind",
    "CountedResponse",
    "Dimension",
    "ErrorState",
    "ErrorTotal",
    "Hold",
    "KnownError",
    "KnownName",
    "LabelCombination",
    "LabelGrandTotal",
    "LabelPeriod",
    "LabelTotal",
    "LedgerState",
    "ModelPrice",
    "Outcome",
    "PendingResponse",
    "Request",
    "RequestBody",
    "SavedView",
    "Span",
    "StoredObject",
    "SummedName",
    "TeamDay",
    "UsageBreakdown",
    "UsageDay",
    "UsageHour",
    "UsagePeak",
    "UsageSource",
    "UsageTotal",
]
