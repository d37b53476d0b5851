"""Who the shop is, and which pages its checkout consists of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cxguard.core.session import Stage
from cxguard.core.snapshot import below_root
from cxguard.errors import ConfigurationError
from cxguard.rules.match import Pattern, overlap, parse_pattern


@dataclass(frozen=True, slots=True)
class Shop:
    """What every answer needs: a name, and a way to reach somebody.

    Attributes:
        hours: when the phone is answered, as a shopper reads it.
        url: a contact page, if there is one.

    Raises:
        ConfigurationError: no name, no way to reach anybody, or something that is no text.
    """

    name: str
    phone: str = field(default="", kw_only=True)
    hours: str = field(default="", kw_only=True)
    email: str = field(default="", kw_only=True)
    url: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        example = 'Shop(name="Fern & Co", phone="+44 20 7946 0000", hours="9-18", email="help@fern.example")'
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigurationError(f"the shop has no name; write {example}")
        for each in ("phone", "hours", "email", "url"):
            if not isinstance(getattr(self, each) or "", str):
                raise ConfigurationError(f"{each}={getattr(self, each)!r} is no text, and every answer quotes it; write {example}")
        if not (self.phone or self.email or self.url):
            raise ConfigurationError(f"the shop cannot be reached: every answer names a contact; write {example}")
        if self.url and not self.url.startswith(("https://", "http://", "/")):
            raise ConfigurationError(f'url={self.url!r} is no address; write Shop(name={self.name!r}, url="https://shop.example/contact")')


@dataclass(frozen=True, slots=True)
class Funnel:
    """The pages of the checkout, each a match (or several) like a rule's: `GET /cart*`.

    Raises:
        ConfigurationError: a match that can match nothing, or one request at two stages.
    """

    cart: str | tuple[str, ...] = field(default=(), kw_only=True)
    checkout: str | tuple[str, ...] = field(default=(), kw_only=True)
    pay: str | tuple[str, ...] = field(default=(), kw_only=True)
    done: str | tuple[str, ...] = field(default=(), kw_only=True)
    _literal: dict[tuple[str, str], Stage] = field(init=False, repr=False, compare=False, default_factory=dict)
    _others: list[tuple[Pattern, Stage]] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        patterns = list(self._patterns())
        for index, (pattern, stage) in enumerate(patterns):
            _refuse_overlaps(pattern, stage, patterns[:index])
            if pattern.literal:
                self._literal[pattern.method, pattern.path] = stage
            else:
                self._others.append((pattern, stage))

    def stage(self, method: str, path: str, root: str = "") -> Stage | None:
        """The stage that a request belongs to, by its full path, or else by the path below *root*; None for all other pages."""
        stage = self._stage(method, path)
        return self._stage(method, below_root(path, root)) if stage is None and root else stage

    def _stage(self, method: str, path: str) -> Stage | None:
        known = self._literal.get((method, path))
        if known is not None or not self._others:
            return known
        return next((stage for pattern, stage in self._others if pattern.method == method and pattern.regex.fullmatch(path)), None)

    def _patterns(self) -> Iterable[tuple[Pattern, Stage]]:
        for stage in Stage:
            matches: str | tuple[str, ...] = getattr(self, stage.value)
            for match in (matches,) if isinstance(matches, str) else matches:
                usual = "POST" if stage is Stage.PAY else "GET"
                yield parse_pattern(match, write=f'Funnel(..., {stage}="{{}}")', usual=usual), stage


def _refuse_overlaps(pattern: Pattern, stage: Stage, others: list[tuple[Pattern, Stage]]) -> None:
    for other, of in others:
        if of is not stage and overlap(pattern, other):
            raise ConfigurationError(
                f"a request can be at two stages, {of}={other.text!r} and {stage}={pattern.text!r}; "
                f'write Funnel(..., {of}="{other.text}") and give {stage} a match of its own'
            )
