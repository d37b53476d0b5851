"""Which rules a request just missed, and why: for whoever wonders why a path is not guarded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from cxguard.rules.match import spellings
from cxguard.rules.rule import Rule

NEAR_MAX = 3  # rules that are named: more is a list of all of them
ALIKE_MIN = 0.6  # how much of a path must be the same to be worth a word


@dataclass(frozen=True, slots=True)
class NearRule:
    """A rule that does not match, and what keeps it from matching."""

    rule: Rule
    why: str


def near_rules(rules: Sequence[Rule], *, method: str, path: str) -> tuple[NearRule, ...]:
    """The rules that come closest to a request that none matches, the closest first."""
    found = [(closeness, NearRule(rule, why)) for rule in rules for closeness, why in _misses(rule, method, path)]
    found.sort(key=lambda each: -each[0])
    best: dict[str, NearRule] = {}
    for _, near in found:
        best.setdefault(near.rule.name, near)
    return tuple(best.values())[:NEAR_MAX]


def _misses(rule: Rule, method: str, path: str) -> Iterator[tuple[float, str]]:
    """Closeness and reason; the method counts least: a path that fits is what somebody meant."""
    own, other = rule.pattern.method, "" if rule.pattern.method == method else f", and for {rule.pattern.method}"
    closeness = -0.5 if other else 0.0
    if _fits(rule, path):
        yield 4.0, f"it is for {own}, and the request is a {method}"
    for prefix, rest in _without_mount(path):
        if _fits(rule, rest):
            better = f"{own} {prefix}{rule.pattern.path}"
            yield 3.0 + closeness, f"it lacks {prefix} in front{other}: paths have the mount in them; write {better}"
    for prefix, rest in _without_mount(rule.pattern.path):
        if rest == path:
            yield 3.0 + closeness, f"it has {prefix} in front{other}: send the whole path, {prefix}{path}"
    alike = SequenceMatcher(None, rule.pattern.path, path).ratio()
    if alike >= ALIKE_MIN:
        yield alike + closeness, f"its path is {rule.pattern.path}{other}"


def _fits(rule: Rule, path: str) -> bool:
    return any(rule.pattern.regex.fullmatch(spelling) for spelling in (path, *spellings(path)))


def _without_mount(path: str) -> Iterator[tuple[str, str]]:
    """The path cut after each of its segments: what could be a mount, and the rest."""
    segments = path.split("/")[1:]
    for number in range(1, len(segments)):
        yield "/" + "/".join(segments[:number]), "/" + "/".join(segments[number:])
