"""The answer to a request that is refused before anything was opened: nothing ran, and nothing was charged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cxguard.core.answer import SPECS, About, Answer, AnswerSpec, Situation, answer_for
from cxguard.errors import BadRequest, BodyTooLarge, BodyTooSlow, MalformedKey, MissingKey, OwnerMissing

_SITUATIONS: Mapping[type[BadRequest], Situation] = {
    MissingKey: Situation.KEY_MISSING,
    MalformedKey: Situation.KEY_MALFORMED,
    OwnerMissing: Situation.OWNER_MISSING,
    BodyTooLarge: Situation.BODY_TOO_LARGE,
    BodyTooSlow: Situation.BODY_TOO_SLOW,
}


def answer_for_refusal(error: BadRequest, *, specs: Mapping[Situation, AnswerSpec] = SPECS) -> Answer:
    """What to say about *error*; its text, which tells an engineer what to do, becomes the hint.

    An error without a row of its own keeps its status and problem type, unless the shop has changed the row.
    """
    situation = next((found for kind in type(error).__mro__ if (found := _SITUATIONS.get(kind))), Situation.BAD_REQUEST)
    answer = answer_for(situation, About(hint=str(error)), specs=specs)
    if situation is Situation.BAD_REQUEST and specs[situation] == SPECS[situation]:
        return replace(answer, status=error.status, problem=error.problem)
    return answer
