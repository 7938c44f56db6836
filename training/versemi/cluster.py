"""Many scans on a Dask cluster: one model in each worker process, results on a shared disk.

The workers write results and records themselves, whole or not at all. A case whose worker is
killed is given to another one by the scheduler; there it is looked up first, so what was finished
is not done again. This module is imported by the scheduler too, and imports neither torch nor
distributed before they are needed.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versemi.batch import (
    DONE,
    FAILED,
    Outcome,
    Question,
    find_done,
    pack_facts,
    reason_of,
    segment_case,
)
from versemi.cases import Case
from versemi.errors import InputError, PackError

if TYPE_CHECKING:
    from distributed import Client, Future

    from versemi.inference import Segmenter

#: How long, in seconds, a scheduler has to answer.
_PATIENCE = 10.0
_LONGEST_GREETING = 1 << 20
_ADDRESS = re.compile(r"(?:tcp://)?(?:\[(?P<six>[^\]]+)\]|(?P<name>[^:/\[\]]+)):(?P<port>\d{1,5})")

#: The worker process's model, by what identifies it. One at a time, and one case at a time.
_models: dict[tuple[str, ...], Segmenter] = {}
_busy = threading.Lock()


# On this machine --------------------------------------------------------------------------------


@contextmanager
def connected(scheduler: str) -> Iterator[Client]:
    """Connect to a Dask scheduler.

    Args:
        scheduler: ``tcp://HOST:PORT``, ``HOST:PORT``, or the scheduler file (``.json``) that
            ``dask scheduler --scheduler-file`` writes.

    Raises:
        InputError: distributed is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "--scheduler needs the Python package distributed, which is not installed; install it"
            " with: pip install distributed"
        ) from None
    host, port = _host_and_port(scheduler)
    # What it would log, with tracebacks, is said in sentences.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        _greeting(host, port)
        address = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except OSError as error:
        raise InputError(
            f"No Dask scheduler answers at {host}:{port} ({_reason(error)}); start one, or check"
            " the address given with --scheduler."
        ) from None
    with client:
        yield client


def segment_on_cluster(
    client: Client,
    cases: Sequence[Case],
    question: Question,
    pack: Path,
    facts: Mapping[str, str],
    folder: Path,
    device: str,
) -> Iterator[Outcome]:
    """Hand the cases to the workers and give what becomes of each, as it comes.

    Args:
        client: of the cluster.
        cases: none of them done yet; their images must lie where the workers see them, too.
        question: what is asked.
        pack: the model pack's folder, as the workers see it.
        facts: what `pack` has to be, see `versemi.batch.pack_facts`.
        folder: where the workers write.
        device: as for `versemi.inference.Segmenter`.
    """
    from distributed import as_completed

    futures = client.map(
        segment_on_worker,
        [{"name": case.name, "image": str(case.image)} for case in cases],
        # Under the same key the scheduler would answer from an earlier run's memory.
        pure=False,
        question=question.to_json(),
        pack=str(pack),
        facts=dict(facts),
        folder=str(folder),
        device=device,
    )
    waiting = dict(zip(futures, cases, strict=True))
    for future in as_completed(futures, loop=client.loop):
        case = waiting.pop(future)
        yield _outcome(future, case, question, facts, folder)
        future.release()


def _outcome(
    future: Future, case: Case, question: Question, facts: Mapping[str, str], folder: Path
) -> Outcome:
    try:
        outcome: Outcome = future.result()
        return outcome
    except Exception as error:  # of Dask: what our own code raises comes back as an outcome
        # A worker may have finished the case and not been able to say so.
        done = find_done(case, question, facts, folder)
        if done is not None:
            return replace(done, status=DONE)
        return Outcome(case.name, str(case.image), FAILED, reason=_dask_reason(error))


def _dask_reason(error: Exception) -> str:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    if isinstance(error, KilledWorker):
        return (
            f"{error.allowed_failures + 1} worker processes died while they had this scan,"
            " probably for want of memory; give the workers more, and run the command again."
        )
    if isinstance(error, FutureCancelledError):
        return (
            "The connection to the scheduler was lost before this scan was done; run the command"
            " again."
        )
    return (
        f"The cluster could not run this scan ({type(error).__name__}: {_reason(error)}); check"
        " that scheduler and workers run in an environment with the same VerSemi."
    )


def _greeting(host: str, port: int) -> None:
    """See that a scheduler is there: distributed's own client waits forever for a silent one.

    Raises:
        OSError: nobody is there, or not one that greets as Dask does, which is with a message of
            a few hundred bytes, its length in front.
    """
    with (
        socket.create_connection((host, port), timeout=_PATIENCE) as connection,
        connection.makefile("rb") as stream,
    ):
        head = stream.read(8)
    if len(head) < 8 or int.from_bytes(head, sys.byteorder) > _LONGEST_GREETING:
        raise ConnectionError("what is there is no Dask scheduler")


def _host_and_port(scheduler: str) -> tuple[str, int]:
    address = _in_scheduler_file(Path(scheduler)) if scheduler.endswith(".json") else scheduler
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise InputError(
            f"The scheduler's address '{address}' is not of the form tcp://HOST:PORT; give the"
            " one that 'dask scheduler' prints, or the scheduler file that it writes."
        )
    return match["six"] or match["name"], int(match["port"])


def _in_scheduler_file(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["address"])
    except OSError as error:
        raise InputError(
            f"The scheduler file {path} cannot be read ({error.strerror}); start the scheduler"
            " with --scheduler-file first."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} is not a scheduler file; give the one that 'dask scheduler --scheduler-file'"
            " writes."
        ) from None


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


# In a worker process ----------------------------------------------------------------------------


def segment_on_worker(
    case: Mapping[str, str],
    question: Mapping[str, Any],
    pack: str,
    facts: Mapping[str, str],
    folder: str,
    device: str,
) -> Outcome:
    """Segment a case in this process, unless it is done: all arguments are plain data.

    What goes wrong is the outcome's reason and names this machine.
    """
    this, asked = Case(case["name"], Path(case["image"])), Question.from_json(question)
    with _busy:
        done = find_done(this, asked, facts, Path(folder))
        if done is not None:
            return replace(done, status=DONE)
        try:
            segmenter = _model(pack, facts, device)
        except Exception as error:  # another worker may well be able to load it
            reason = f"On {socket.gethostname()}: {reason_of(error)}"
            return Outcome(this.name, str(this.image), FAILED, reason=reason)
        return segment_case(this, asked, segmenter, Path(folder))


def _model(pack: str, facts: Mapping[str, str], device: str) -> Segmenter:
    """The model, loaded when the first case comes and kept for the others."""
    key = (facts["weights_sha256"], facts["manifest_sha256"], device)
    if key not in _models:
        from versemi.modelpack import ModelPack

        loaded = ModelPack.load(pack)
        if pack_facts(loaded) != facts:
            raise PackError(
                f"The model pack at {pack} is another one here than where the command was given;"
                " put it where all machines see the same."
            )
        from versemi.inference import Segmenter

        _models.clear()
        _models[key] = Segmenter(loaded, device=device)
    return _models[key]
