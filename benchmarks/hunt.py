"""A long hunt: many seeds of `cxguard simulate`, in chunks, from a copy of what is committed, and a report.

    python benchmarks/hunt.py --seeds 1000000 --results hunt.jsonl            resumable: a chunk in the file is not played again
    python benchmarks/hunt.py --seeds 1000000 --results hunt.jsonl --report   what is known by now; plays nothing

The copy is why a hunt of hours plays one commit, whatever is edited or merged meanwhile. Each chunk has a process of its own.
Ends with 1 if a seed broke a promise, if a fault never came about in a thousand stories, or if chunks are missing.

The interpreter matters: Debian's, built with profile-guided optimisation, needs a fifth less time for a story than one that
pyenv builds by default. Start this with the faster one, and PYTHONPATH=.venv/lib/python3.11/site-packages, if it is of the same
version; the stories are the same.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # last: an interpreter that only borrows the packages of another one has no cxguard
PLAYED = "cxguard"  # all that a story is told with
CHUNK = 1_000  # seeds: half a minute of one core, and what is lost when a hunt is broken off


@dataclass(frozen=True)
class Chunk:
    """What became of some seeds in a row: one line of the results.

    Attributes:
        seconds: of one core.
        failed: the seeds that broke a promise, with the first one that they broke.
        happened: how often each fault and turn came about.
    """

    commit: str
    first: int
    count: int
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> tuple[str, int, int]:
        return self.commit, self.first, self.count


def wanted(commit: str, *, start: int, seeds: int, chunk: int) -> list[Chunk]:
    """The chunks of a hunt, unplayed. The last one may be smaller."""
    end = start + seeds
    return [Chunk(commit, first, min(chunk, end - first)) for first in range(start, end, chunk)]


def known(results: Path | None) -> list[Chunk]:
    """What earlier runs have written down. A line that was cut off, by whatever ended the run, is none."""
    chunks = list[Chunk]()
    for line in results.read_text("utf-8").splitlines() if results is not None and results.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            chunks.append(Chunk(**json.loads(line)))
    return chunks


def keep(results: Path, chunk: Chunk) -> None:
    """Add one line, which also ends one that was cut off."""
    cut_off = results.exists() and not results.read_bytes().endswith(b"\n")
    with results.open("a", encoding="utf-8") as lines:
        lines.write("\n" * cut_off + json.dumps(asdict(chunk)) + "\n")


def play_chunk(tree: str, chunk: Chunk) -> Chunk:
    """In a process of its own, which has no cxguard yet: it plays the one of *tree*."""
    sys.path.insert(0, tree)
    import cxguard
    from cxguard.testing.simulation.run import play_many

    if not Path(cxguard.__file__).is_relative_to(tree):
        raise AssertionError(f"{cxguard.__file__} would be played, not {tree}: start the hunt with a Python that has no cxguard loaded")
    began, happened, failed = time.process_time(), Counter[str](), dict[str, str]()
    for verdict in play_many(range(chunk.first, chunk.first + chunk.count), stop_after=chunk.count + 1):
        happened.update(verdict.happened)
        if verdict.wrong:
            failed[str(verdict.seed)] = verdict.wrong[0]
    return Chunk(chunk.commit, chunk.first, chunk.count, round(time.process_time() - began, 2), failed, dict(happened))


def played(tree: Path, chunks: list[Chunk], *, processes: int) -> Iterator[Chunk]:
    """Each as soon as it is done."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        try:
            for done in as_completed([pool.submit(play_chunk, str(tree), chunk) for chunk in chunks]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def git(*arguments: str) -> bytes:
    return subprocess.run([shutil.which("git") or "git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout


def copy_of(commit: str, folder: Path) -> Path:
    with zipfile.ZipFile(BytesIO(git("archive", "--format=zip", commit, PLAYED))) as archive:
        archive.extractall(folder)
    compileall.compile_dir(folder, quiet=1)  # else each process would, where the environment forbids to write it down
    return folder


def _say(line: str) -> None:
    print(f"hunt: {line}", file=sys.stderr, flush=True)


def hunt(left: list[Chunk], *, processes: int, results: Path | None) -> list[Chunk]:
    """Play what is left, and keep each chunk as soon as it is there."""
    done, began, seeds = list[Chunk](), time.perf_counter(), sum(chunk.count for chunk in left)
    with TemporaryDirectory() as folder:
        for chunk in played(copy_of(left[0].commit, Path(folder)), left, processes=processes):
            done.append(chunk)
            if results is not None:
                keep(results, chunk)
            for seed, wrong in chunk.failed.items():
                _say(f"seed {seed}: {wrong}")
            count = sum(each.count for each in done)
            rate = count / (time.perf_counter() - began)
            _say(f"{count:,} of {seeds:,} seeds, {rate:,.0f} a second, done in {(seeds - count) / rate / 60:,.0f} min")
    return done


def report(found: list[Chunk], *, missing: int) -> dict[str, Any]:
    """What the README says of a hunt."""
    from cxguard.testing.simulation.run import never

    happened = sum((Counter(chunk.happened) for chunk in found), Counter[str]())
    count = sum(chunk.count for chunk in found)
    return {
        "commit": found[0].commit if found else "",
        "first": min((chunk.first for chunk in found), default=0),
        "last": max((chunk.first + chunk.count - 1 for chunk in found), default=0),
        "stories": count,
        "chunks_missing": missing,
        "core_seconds": round(sum(chunk.seconds for chunk in found)),
        "failed": {seed: wrong for chunk in found for seed, wrong in chunk.failed.items()},
        "never": sorted(never(happened, played=count)),
        "happened": dict(sorted(happened.items())),
    }


def show(told: dict[str, Any]) -> None:
    for what, count in told["happened"].items():
        print(f"{count:>14,}  {what}")
    for seed, wrong in told["failed"].items():
        print(f"seed {seed}: {wrong}\n    cxguard simulate --start {seed} --told")
    if told["never"]:
        print(f"never came about, so it was not tried: {', '.join(told['never'])}")
    if told["chunks_missing"]:
        print(f"{told['chunks_missing']:,} chunks are missing: start it again with the same --results")
    print(
        f"commit {told['commit']}: {told['stories']:,} stories of seeds {told['first']:,} to {told['last']:,} "
        f"in {told['core_seconds'] / 3600:.2f} core hours: {len(told['failed'])} broke a promise"
    )


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=1_000_000, show_default=True, help="How many stories.")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--chunk", type=click.IntRange(1), default=CHUNK, show_default=True, help="Seeds of one process and of one line in the file.")
@click.option("--processes", type=click.IntRange(1, 256), default=2, show_default=True, help="How many play at the same time.")
@click.option("--commit", default="HEAD", show_default=True, help="What is played; a hunt that is gone on with needs the same one.")
@click.option("--results", type=click.Path(path_type=Path, dir_okay=False), help="A file that keeps each chunk, and is gone on from.")
@click.option("--report", "only_report", is_flag=True, help="Play nothing: say what the results have.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def main(
    seeds: int, start: int, chunk: int, processes: int, commit: str, results: Path | None, *, only_report: bool, as_json: bool
) -> None:
    """Play many seeds of one commit, and say which broke a promise."""
    commit = git("rev-parse", f"{commit}^{{commit}}").decode().strip()
    chunks = wanted(commit, start=start, seeds=seeds, chunk=chunk)
    names = {each.name for each in chunks}
    found = {each.name: each for each in known(results) if each.name in names}
    left = [each for each in chunks if each.name not in found]
    if left and not only_report:
        _say(f"commit {commit[:12]}: {len(left):,} of {len(chunks):,} chunks to play; what is not committed is not played")
        found |= {each.name: each for each in hunt(left, processes=processes, results=results)}
    told = report(sorted(found.values(), key=lambda each: each.first), missing=len(chunks) - len(found))
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        show(told)
    sys.exit(1 if told["failed"] or told["never"] or told["chunks_missing"] else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended like with Ctrl-C: chunks in hand end, and the copy is taken away
    main()
