"""All rules of a guard, ready to be looked up: a dictionary for plain paths, then the patterns of the method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cxguard.core.snapshot import Snapshot, below_root
from cxguard.errors import ConfigurationError
from cxguard.rules.match import METHODS, is_odd, overlap, spellings
from cxguard.rules.rule import Rule

PLAIN_METHODS = METHODS | {"OPTIONS"}  # no router takes one of these for another


class RuleBook:
    """The rules of a guard. Immutable.

    Raises:
        ConfigurationError: no rule, two with one name, or two that can match the same request.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: tuple[Rule, ...] = tuple(rules)
        for index, rule in enumerate(self.rules):
            for other in self.rules[:index]:
                _refuse_pair(other, rule)
        # Of several mutations at one address, the one with the longest body stands for all until the body is read.
        first = sorted(self.rules, key=lambda rule: rule.body_bytes_max)
        self._literal: dict[str, dict[str, Rule]] = {}
        self._patterns: dict[str, list[Rule]] = {}
        for rule in first:
            if rule.pattern.literal:
                self._literal.setdefault(rule.pattern.method, {})[rule.pattern.path] = rule
            else:
                self._patterns.setdefault(rule.pattern.method, []).insert(0, rule)
        self._methods = frozenset(rule.pattern.method for rule in self.rules)
        self._with_slash = frozenset(path.rstrip("/") for paths in self._literal.values() for path in paths if path.endswith("/"))
        self._by_name = {rule.name: rule for rule in self.rules}
        self._confirmations: tuple[Rule, ...] = tuple(rule for rule in self.rules if rule.done is not None)

    def find(self, method: str, path: str, root: str = "") -> Rule | None:
        """The rule for a request, by method and full path, or else by the path below *root*.

        For GraphQL, `choose` then says which of them, or none."""
        rule = self._spelt(method, path)
        return self._spelt(method, below_root(path, root)) if rule is None and root else rule

    def _spelt(self, method: str, path: str) -> Rule | None:
        rule = self._find(method, path)
        if rule is not None or (method not in self._methods and method in PLAIN_METHODS):
            return rule
        method = "GET" if method.upper() == "HEAD" else method.upper()
        if method in self._methods and (is_odd(path) or path in self._with_slash):
            return next((found for spelling in spellings(path) if (found := self._find(method, spelling))), None)
        return self._find(method, path)

    def _find(self, method: str, path: str) -> Rule | None:
        literal = self._literal.get(method)
        if literal is not None:
            rule = literal.get(path)
            if rule is not None:
                return rule
        for rule in self._patterns.get(method, ()):
            if rule.pattern.regex.fullmatch(path):
                return rule
        return None

    def choose(self, found: Rule, snapshot: Snapshot) -> Rule | None:
        """The rule for a request whose body has been read: *found*, or the one for the GraphQL mutation that it selects.

        None: it selects no mutation that has a rule, so it passes unguarded.

        Raises:
            SeveralMutations, HiddenMutation, BadBody: the guard could be led past.
        """
        if not found.graphql_mutation:
            return found
        from cxguard.rules.graphql_reading import selected_mutation

        there = {rule.graphql_mutation: rule for rule in self.rules if rule.pattern.text == found.pattern.text}
        mutation = selected_mutation(snapshot, frozenset(there))
        return there[mutation] if mutation is not None else None

    def by_name(self, name: str) -> Rule | None:
        """The rule that a record names; None if it is not of this guard."""
        return self._by_name.get(name)

    def confirmed_by(self, method: str, path: str, root: str = "") -> Sequence[Rule]:
        """The `per_purchase` rules whose confirmation page this is, by its full path or that below *root*."""
        if not self._confirmations:
            return ()
        written = {path, below_root(path, root)}
        pages = [(rule, rule.done) for rule in self._confirmations if rule.done and rule.done.method == method]
        return [rule for rule, done in pages if any(done.regex.fullmatch(each) for each in written)]


def match_rules(rules: Iterable[Rule]) -> RuleBook:
    """Check rules against each other and make them ready to be looked up.

    Raises:
        ConfigurationError: two of them cannot live together.
    """
    return RuleBook(rules)


def _refuse_pair(a: Rule, b: Rule) -> None:
    if overlap(a.pattern, b.pattern) and not _told_apart(a, b):
        raise ConfigurationError(f'two rules can match the same request: Rule("{a.match}") and Rule("{b.match}"); {_way_out(a, b)}')
    if a.name == b.name:
        raise ConfigurationError(
            f'two rules have the name {a.name!r}: their orders would meet; write Rule("{b.match}", ..., name="{b.match}")'
        )


def _told_apart(a: Rule, b: Rule) -> bool:
    """Two mutations at one address are two rules."""
    both = a.graphql_mutation and b.graphql_mutation
    return bool(both) and a.match == b.match and a.graphql_mutation != b.graphql_mutation


def _way_out(a: Rule, b: Rule) -> str:
    if a.match == b.match and (a.graphql_mutation or b.graphql_mutation):
        plain = b if a.graphql_mutation else a
        return f'write Rule("{plain.match}", ..., graphql_mutation="...") with a mutation of its own'
    if a.match == b.match:
        return f'write one Rule("{a.match}", ...)'
    for one in (a, b):
        if "{" in one.match and ":int}" not in one.match:
            return f'write Rule("{one.match.replace("}", ":int}")}", ...) if it is a number, or one rule for both'
    wide = a if a.match.endswith("*") else b
    return f'write Rule("{wide.match.removesuffix("*")}/...", ...) so that it leaves the other out, or one rule for both'
