"""Rules: which requests are guarded, and how they are read."""

from __future__ import annotations

from cxguard.core.reading import HandlerAnswer, Reading
from cxguard.rules.amounts import major
from cxguard.rules.asked import Asked, read_asked, resolve_owner
from cxguard.rules.book import RuleBook, match_rules
from cxguard.rules.owners import Framework, fixed, scope_session, scope_user, signed_session
from cxguard.rules.reads import graphql_errors, has_status, json_path, page_has, redirects_to
from cxguard.rules.rule import Rule, replay
from cxguard.rules.shop import Funnel, Shop
from cxguard.rules.sources import (
    Arrival,
    FoundKey,
    cookie,
    form_field,
    graphql_variable,
    header,
    json_field,
    path_field,
    per_purchase,
    resolve_key,
    resolve_source,
)

__all__ = [
    "Arrival",
    "Asked",
    "FoundKey",
    "Framework",
    "Funnel",
    "HandlerAnswer",
    "Reading",
    "Rule",
    "RuleBook",
    "Shop",
    "cookie",
    "fixed",
    "form_field",
    "graphql_errors",
    "graphql_variable",
    "has_status",
    "header",
    "json_field",
    "json_path",
    "major",
    "match_rules",
    "page_has",
    "path_field",
    "per_purchase",
    "read_asked",
    "redirects_to",
    "replay",
    "resolve_key",
    "resolve_owner",
    "resolve_source",
    "scope_session",
    "scope_user",
    "signed_session",
]
