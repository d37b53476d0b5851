"""Checkout middleware: charges once, keeps the order when the gateway is down, shows who met an error."""

from cxguard.core.caps import Caps
from cxguard.core.notices import NoticeKind
from cxguard.core.outcomes import Charged, Declined, DeclineReason, NeedsShopper, NotCharged, Outcome, Refunded, Unknown
from cxguard.core.quotes import AskShopper, GoOn, GoOnLower, Stop
from cxguard.core.reading import HandlerAnswer, Reading
from cxguard.engine.codecs import Codec, codec_of
from cxguard.engine.courier import Notice
from cxguard.engine.handle import OperationHandle, current_operation
from cxguard.engine.library import Purpose
from cxguard.gateways.base import Charge, Gateway
from cxguard.guard import Guard
from cxguard.rules import (
    Funnel,
    Rule,
    Shop,
    cookie,
    fixed,
    form_field,
    graphql_errors,
    has_status,
    header,
    json_field,
    json_path,
    major,
    page_has,
    path_field,
    per_purchase,
    redirects_to,
    replay,
    scope_session,
    scope_user,
    signed_session,
)

__version__ = "0.1.0"

__all__ = [
    "AskShopper",
    "Caps",
    "Charge",
    "Charged",
    "Codec",
    "DeclineReason",
    "Declined",
    "Funnel",
    "Gateway",
    "GoOn",
    "GoOnLower",
    "Guard",
    "HandlerAnswer",
    "NeedsShopper",
    "NotCharged",
    "Notice",
    "NoticeKind",
    "OperationHandle",
    "Outcome",
    "Purpose",
    "Reading",
    "Refunded",
    "Rule",
    "Shop",
    "Stop",
    "Unknown",
    "codec_of",
    "cookie",
    "current_operation",
    "fixed",
    "form_field",
    "graphql_errors",
    "has_status",
    "header",
    "json_field",
    "json_path",
    "major",
    "page_has",
    "path_field",
    "per_purchase",
    "redirects_to",
    "replay",
    "scope_session",
    "scope_user",
    "signed_session",
]
