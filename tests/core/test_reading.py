"""What a handler's answer means."""

from __future__ import annotations

import gzip
import zlib

import pytest

from cxguard.core.reading import Case, HandlerAnswer, Reading, read, read_status

REJECTED = {400, 401, 403, 404, 405, 409, 413, 415, 422, 429}


@pytest.mark.parametrize("status", range(0, 600))
def test_every_status_has_one_reading(status: int) -> None:
    """2xx succeeded, 402 declined, ten refusals rejected, and all else failed: redirects and 5xx too."""
    if 200 <= status <= 299:
        expected = Reading.SUCCEEDED
    elif status == 402:
        expected = Reading.DECLINED
    else:
        expected = Reading.REJECTED if status in REJECTED else Reading.FAILED
    assert read_status(status) is expected
    assert read(HandlerAnswer(status)) is expected


def test_no_answer_has_failed() -> None:
    """An exception, a crash, or an app that said nothing: nobody knows."""
    assert read(None) is Reading.FAILED
    assert read(None, [(lambda answer: True, Reading.SUCCEEDED)]) is Reading.FAILED


def by_status(status: int, reading: Reading) -> Case:
    return (lambda answer: answer.status == status), reading


def test_the_first_case_that_holds_counts() -> None:
    """Cases are asked in order, and before the status."""
    cases = [by_status(200, Reading.DECLINED), by_status(200, Reading.REJECTED)]
    assert read(HandlerAnswer(200), cases) is Reading.DECLINED


def test_success_that_was_described_is_the_only_one() -> None:
    """Where a rule says what success looks like, a bare 200 is not one: nobody knows."""
    cases = [by_status(303, Reading.SUCCEEDED)]
    assert read(HandlerAnswer(303), cases) is Reading.SUCCEEDED
    assert read(HandlerAnswer(200), cases) is Reading.FAILED
    assert read(HandlerAnswer(422), cases) is Reading.REJECTED
    assert read(HandlerAnswer(402), cases) is Reading.DECLINED


def test_other_cases_leave_success_to_the_status() -> None:
    """A rule that only describes its declines still takes a 200 for success."""
    assert read(HandlerAnswer(200), [by_status(418, Reading.DECLINED)]) is Reading.SUCCEEDED


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (b"gzip", gzip.compress(b'{"a": 1}', mtime=0)),
        (b"deflate", zlib.compress(b'{"a": 1}')),
        (b"identity", b'{"a": 1}'),
        (b"", b'{"a": 1}'),
    ],
)
def test_compressed_answers_are_read(encoding: bytes, packed: bytes) -> None:
    """An app that compresses its answers is understood all the same."""
    assert HandlerAnswer(200, ((b"content-encoding", encoding),), packed).json() == {"a": 1}


@pytest.mark.parametrize("encoding", [b"gzip", b"br"])
def test_what_cannot_be_unpacked_is_empty(encoding: bytes) -> None:
    """A broken or unknown compression is no text, so no case holds by accident."""
    answer = HandlerAnswer(200, ((b"content-encoding", encoding),), b"\x1f\x8bgarbage")
    assert answer.text() == "" and answer.json() is None


@pytest.mark.parametrize(("encoding", "reading"), [(b"br", Reading.FAILED), (b"gzip, br", Reading.FAILED), (b"gzip", Reading.SUCCEEDED)])
def test_answer_into_which_no_case_can_look_is_no_success(encoding: bytes, reading: Reading) -> None:
    """It may be the page that says "declined", with status 200. Without a case the status says it, as ever."""
    answer = HandlerAnswer(200, ((b"content-encoding", encoding),), gzip.compress(b"paid", mtime=0))
    assert read(answer, [(lambda said: "declined" in said.text(), Reading.DECLINED)]) is reading
    assert read(answer) is Reading.SUCCEEDED


def test_bytes_that_are_no_text_become_marks() -> None:
    """A page with one broken letter still says what it says."""
    assert HandlerAnswer(200, (), b"gr\xc3\xbcn \xff").text() == "grün \ufffd"


def test_unpacking_ends() -> None:
    """A bomb of an answer is unpacked to a limit only."""
    answer = HandlerAnswer(200, ((b"content-encoding", b"gzip"),), gzip.compress(b"0" * 20_000_000, mtime=0))
    assert len(answer.content()) <= 4 * 1024 * 1024


def test_header_is_found_in_any_case() -> None:
    """Apps write header names as they like."""
    assert HandlerAnswer(302, ((b"Location", b"/x"),)).header("location") == "/x"
    assert HandlerAnswer(302).header("location") is None
