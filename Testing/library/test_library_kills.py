"""A writer is killed at random moments, again and again: no committed case is ever lost.

Fifty times in the ordinary test; as often as it says with VERSEMI_KILLS=1000.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import SimpleITK as sitk
import victim

from versemi.caselibrary import Case, CaseLibrary

KILLS = int(os.environ.get("VERSEMI_KILLS", "50"))
# Every so often a new library, or looking through it would take longer than killing.
KILLS_PER_LIBRARY = 25
#: Seconds.
LONGEST = 0.35


@dataclass
class Tally:
    kills: int = 0
    inside: int = 0
    returned: int = 0
    unfinished: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.inside} of them inside a write; {self.returned} adds had"
            f" returned and all are there, {self.unfinished} writes were set aside unfinished"
        )


@pytest.fixture
def start(environment, monkeypatch) -> Iterator:
    """Starts victims, where the system can fork, from a process that has all imports behind it."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["victim"])
    alive = []

    def start(*arguments):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=victim.run, args=(*arguments[:2], writer, arguments[2]))
        process.start()
        writer.close()
        alive.append(process)
        return process, reader

    yield start
    for process in alive:
        process.kill()
        process.join()


def kill_somewhere(process, phases, *, into_a_write: bool) -> bool:
    """Kill a victim some time after its first write began; gives whether it was inside a write."""
    phase, length = phases.recv()
    time.sleep(random.uniform(0, LONGEST))
    while into_a_write and (phases.poll() or phase != victim.WRITING):
        phase, length = phases.recv()
    if into_a_write:
        time.sleep(random.uniform(0, length))
    process.kill()
    process.join()
    try:
        while True:
            phase, _ = phases.recv()
    except EOFError:
        return phase == victim.WRITING
    finally:
        phases.close()


def look_through(library: CaseLibrary, log: Path, known: set[Case]) -> int:
    """Check a library after a kill; gives how many unfinished writes lay about."""
    returned: dict[str, int] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        id, version = line.split()
        returned[id] = int(version)
    cases = {case.id: case for case in library.cases()}
    assert library.scan()[1] == {}
    for id, version in returned.items():
        assert cases[id].version >= version, f"{id} lost version {version}"
    # A write may be whole although its add had no time left to return; that is one a kill.
    more = sum(case.version - returned.get(case.id, -1) for case in cases.values())
    assert more <= library_kills(log)
    for case in set(cases.values()) - known:
        victim.check_case(case)
        known.add(case)
    described = json.loads((library.folder / "dataset.json").read_text(encoding="utf-8"))
    for entry in described["training"]:
        path = library.folder / entry["label"]
        version = cases[entry["case"]].version
        assert entry["version"] in (version, version - 1)
        assert path.stat().st_size > 0
    for entry in described["training"][-2:]:
        assert sitk.ReadImage(str(library.folder / entry["label"])).GetSize()
    findings = library.verify()
    assert {finding.kind for finding in findings} <= {"leftover", "outdated"}, findings
    assert library.verify(set_aside=False) == []
    return len(findings)


def library_kills(log: Path) -> int:
    """How often this library's writer was killed: its log is renewed with it."""
    return int(log.with_suffix(".kills").read_text())


def test_a_writer_killed_at_random_moments_loses_no_case_and_shows_no_half_one(tmp_path, start):
    tally = Tally()
    began = time.monotonic()
    for kill in range(KILLS):
        if kill % KILLS_PER_LIBRARY == 0:
            folder = tmp_path / f"library {kill}"
            library = CaseLibrary.create(folder, wait=5)
            log = tmp_path / f"returned {kill}.txt"
            log.touch()
            known: set[Case] = set()
        process, phases = start(str(folder), str(log), 100 * (kill % KILLS_PER_LIBRARY))
        # Where the disk is fast, most of the time passes outside of writes.
        behind = tally.inside < tally.kills * 2 / 3
        tally.inside += kill_somewhere(process, phases, into_a_write=behind)
        tally.kills += 1
        log.with_suffix(".kills").write_text(str(kill % KILLS_PER_LIBRARY + 1))
        tally.unfinished += look_through(library, log, known)
        if (kill + 1) % KILLS_PER_LIBRARY == 0 or kill + 1 == KILLS:
            tally.returned += len(log.read_text().splitlines())
            print(f"{time.monotonic() - began:.0f} s: {tally}", file=sys.stderr, flush=True)
    assert tally.kills == KILLS and tally.returned >= KILLS / 5
    assert tally.inside >= KILLS / 2
