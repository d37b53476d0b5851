"""Which request a rule is for: a method and a path, with `{id}` for one segment and a `*` at the end for any rest.

Paths are compared decoded and with the mount in front; where nothing matches so, as the app below its `root_path` sees
them, which is how its routes are written. A path in another spelling, which some routers lead to the same
handler (a slash more, a slash twice, the method in lower case, HEAD for GET), is guarded, too.

Patterns are checked when the program starts: one that can match nothing, and two that can match the same request, are
refused with the line to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from cxguard.core.snapshot import below_root
from cxguard.errors import ConfigurationError

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_ELSEWHERE = re.compile(r"<(?:[a-z]+:)?([^<>:]*)>|:([A-Za-z_]\w*)")  # a segment's name as Flask and Django, or Express, write it
_PARAM = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:int)?\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One checked match, for instance `POST /orders/{id}/pay`."""

    text: str
    method: str
    path: str
    regex: re.Pattern[str]

    @property
    def literal(self) -> bool:
        """The path is the only one that matches."""
        return "{" not in self.path and not self.path.endswith("*")

    def params(self, path: str, root: str = "") -> Mapping[str, str]:
        """The named parts of a path that matches, in whatever spelling, with or without *root*."""
        if self.literal:
            return {}
        below = below_root(path, root)
        written = (path, *spellings(path), below, *spellings(below))
        found = next((found for spelling in written if (found := self.regex.fullmatch(spelling))), None)
        return found.groupdict() if found else {}


def spellings(path: str) -> tuple[str, str]:
    """How a rule may write a path that came in another spelling: each slash once, without and with one at the end."""
    if not path.startswith("/") and "://" in path:  # a target with its host, as for a proxy
        path = path.partition("://")[2].partition("/")[2]
    plain = "/" + "/".join(segment for segment in path.removesuffix("\n").split("/") if segment)
    return plain, plain.rstrip("/") + "/"


def is_odd(path: str) -> bool:
    """Whether some router may read *path* as another one."""
    return path[-1:] in ("/", "\n", "") or path[0] != "/" or "//" in path


def parse_pattern(text: str, *, write: str, usual: str = "POST") -> Pattern:
    """Check a match and make it ready.

    Args:
        write: the code around it with `{}` for the match, to print the corrected line: `Rule("{}", ...)`.
        usual: the method that was probably meant where there is none.

    Raises:
        ConfigurationError: it can match nothing.
    """
    method, _, path = str(text).strip().partition(" ")
    path = path.strip()
    better = _corrected(method, path, usual=usual)
    if better != text:
        reason = _why_nothing(method, path)
        raise ConfigurationError(f"the match {text!r} can match no request: {reason}; write {write.format(better)}")
    _check_segments(text, path, write=write)
    return Pattern(text, method, path, _compiled(path))


def overlap(a: Pattern, b: Pattern) -> bool:
    """Whether some request matches both."""
    if a.method != b.method:
        return False
    return _overlap(a.path.split("/"), b.path.split("/"))


def _corrected(method: str, path: str, *, usual: str) -> str:
    """What was probably meant."""
    if not path and "/" in method:  # the space is missing
        method, _, path = method.partition("/")
    path = re.sub(r"^[a-z]+://[^/]+", "", path)
    path = unquote(re.split(r"[?#]", path)[0])
    path = path if path.startswith("/") else f"/{path}"
    method = method.upper() if method.upper() in METHODS else usual
    return f"{method} {path}"


def _why_nothing(method: str, path: str) -> str:
    if not path or method not in METHODS:
        return f"it begins with the method, one of {', '.join(sorted(METHODS))}, and a space"
    if "?" in path or "#" in path:
        return "a path has no query; read the query in a source instead"
    if "%" in path:
        return "paths are compared decoded"
    return "it has one space, and a path that begins with / and names no host"


def _check_segments(text: str, path: str, *, write: str) -> None:
    if any(_ELSEWHERE.fullmatch(segment) for segment in path.split("/")):
        plain = "/".join(_ELSEWHERE.sub(r"{\1\2}", segment) if _ELSEWHERE.fullmatch(segment) else segment for segment in path.split("/"))
        better = write.format(f"{text.split(' ')[0]} {plain}")
        raise ConfigurationError(f"the match {text!r} can match no request: {{name}} stands for a whole segment; write {better}")
    names: list[str] = []
    for segment in path.removesuffix("*").split("/"):
        param = _PARAM.fullmatch(segment)
        if param is None and any(letter in segment for letter in "{}*"):
            plain = re.sub(r"[^/]*[{}*][^/]*", "{id}", path.removesuffix("*"))
            raise ConfigurationError(
                f"the match {text!r} can match no request: {{name}} stands for a whole segment, and * only at the end; "
                f"write {write.format(text.split(' ')[0] + ' ' + plain)}"
            )
        names += [param[1]] if param else []
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        better = text[::-1].replace(f"{{{twice}}}"[::-1], f"{{{twice}_2}}"[::-1], 1)[::-1]
        raise ConfigurationError(f"the match {text!r} names {{{twice}}} twice; write {write.format(better)}")


def _compiled(path: str) -> re.Pattern[str]:
    written = ""
    for segment in path.removesuffix("*").split("/"):
        param = _PARAM.fullmatch(segment)
        written += "/" + (f"(?P<{param[1]}>{'[0-9]+' if param[2] else '[^/]+'})" if param else re.escape(segment))
    return re.compile(written.removeprefix("/") + (".*" if path.endswith("*") else ""), re.DOTALL)


def _overlap(a: list[str], b: list[str]) -> bool:
    for ours, theirs in zip(a, b, strict=False):
        if ours.endswith("*") or theirs.endswith("*"):
            return _open_overlap(ours, theirs)
        if not _segment_overlap(ours, theirs):
            return False
    return len(a) == len(b)


def _segment_overlap(ours: str, theirs: str) -> bool:
    for one, other in ((ours, theirs), (theirs, ours)):
        param = _PARAM.fullmatch(one)
        if param is not None:
            return bool(_PARAM.fullmatch(other)) or (other.isdecimal() if param[2] else bool(other))
    return ours == theirs


def _open_overlap(ours: str, theirs: str) -> bool:
    """One of the two ends here with a star: it takes whatever follows its own beginning."""
    a, b = ours.removesuffix("*"), theirs.removesuffix("*")
    if ours.endswith("*") and theirs.endswith("*"):
        return a.startswith(b) or b.startswith(a)
    start, other = (a, theirs) if ours.endswith("*") else (b, ours)
    param = _PARAM.fullmatch(other)
    if param is None:
        return other.startswith(start)
    return not param[2] or not start or start.isdecimal()
