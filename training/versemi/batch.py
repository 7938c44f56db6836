"""Many scans under one question: which of them are done, doing one, and what became of each.

Beside a case's results lies its record, ``NAME.versemi.json``: the image, what was asked, the
pack, and the files that were written. It is written last, and taken away before the files are
replaced, so a case with a record is whole, whoever was killed and when.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from versemi import __version__
from versemi.cases import Case, digest_of, folded, name_cases, stamp_of
from versemi.errors import InputError, OutputError, VersemiError
from versemi.export import write_label_map, write_segmentation, write_text, write_volume
from versemi.geometry import Roi
from versemi.images import ScanFile, guess_modality, read_image

if TYPE_CHECKING:
    from versemi.inference import Segmentation, Segmenter
    from versemi.modelpack import ModelPack

RECORD_SUFFIX = ".versemi.json"
REPORT_NAME = "segment_report"
DONE, ALREADY_DONE, FAILED, NOT_REACHED = "done", "already done", "failed", "not reached"

#: Of the record; one of another format is as good as none.
_FORMAT = 1
_REPORT_COLUMNS = ("case", "image", "status", "reason", "warnings", "seconds", "computed_on")


@dataclass(frozen=True)
class Question:
    """What is asked of every scan.

    Attributes:
        tasks: prompt identifiers; none for every prompt of the scan's modality.
        roi: where to look; everywhere if None.
        modality: ``"CT"`` or ``"MR"`` if it is known.
        uncertainty: whether to write its map.
    """

    tasks: tuple[str, ...] = ()
    roi: Roi | None = None
    modality: str | None = None
    uncertainty: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain data; the same for the same prompts in another order."""
        return {
            "tasks": sorted(self.tasks),
            "roi": self.roi.to_json() if self.roi else None,
            "modality": self.modality,
            "uncertainty": self.uncertainty,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Question:
        """The inverse of :meth:`to_json`."""
        roi = Roi.from_json(data["roi"]) if data["roi"] else None
        return cls(tuple(data["tasks"]), roi, data["modality"], data["uncertainty"])


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: its name.
        image: the scan's path.
        status: ``"done"``, ``"already done"``, ``"failed"`` or ``"not reached"``.
        reason: why it failed, in one sentence.
        warnings: sentences for the user.
        volumes_ml: millilitres by prompt.
        files: names of the results in the output folder.
        seconds: how long it took.
        computed_on: machine and device.
    """

    case: str
    image: str
    status: str
    reason: str = ""
    warnings: list[str] = field(default_factory=list)
    volumes_ml: dict[str, float] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    seconds: float = 0.0
    computed_on: str = ""


# One scan ---------------------------------------------------------------------------------------


def prompts_for(
    pack: ModelPack, scan: ScanFile, question: Question
) -> tuple[list[str], str | None, str]:
    """What a scan is asked.

    Returns:
        The prompts, the modality if it is known, and where the prompts were chosen by it a
        sentence that says so.

    Raises:
        InputError: the pack has no prompt for the scan's modality.
    """
    modality = question.modality or scan.modality
    if question.tasks:
        return list(question.tasks), modality, ""
    how = ""
    if modality is None:
        modality = guess_modality(scan.image)
        how = " (guessed from the intensities; --modality says otherwise)"
    tasks = [task for task in pack.tasks if task.modality == modality]
    if not tasks:
        raise InputError(
            f"The pack {pack.name} has no prompts for {modality}; choose another pack, or say what"
            " the scan is with --modality."
        )
    groups = sorted({task.group for task in tasks})
    of = f"the group{'s' * (len(groups) > 1)} {', '.join(groups)}"
    sentence = f"The scan is {modality}{how}: {len(tasks)} prompts of {of}"
    return [task.id for task in tasks], modality, sentence


def write_results(
    result: Segmentation, name: str, folder: Path, *, uncertainty: bool
) -> list[Path]:
    """Write a scan's results and return their paths; a record that the case had is gone.

    Raises:
        OutputError: one of them could not be written.
    """
    try:
        _record_path(name, folder).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"The results of {name} could not be written in {folder} ({error.strerror}); check its"
            " permissions or choose another folder."
        ) from None
    files = [
        write_segmentation(result.label_map, result.tasks, folder / f"{name}.seg.nrrd"),
        *write_label_map(result.label_map, result.tasks, folder / f"{name}_label_map.nii.gz"),
    ]
    if uncertainty:
        files.append(write_volume(result.uncertainty(), folder / f"{name}_uncertainty.nii.gz"))
    return files


def segment_case(
    case: Case,
    question: Question,
    segmenter: Segmenter,
    folder: Path,
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> Outcome:
    """Segment a case, write its results and its record; whatever goes wrong is its outcome."""
    begin = time.perf_counter()

    def outcome(status: str, **more: Any) -> Outcome:
        more["seconds"] = round(time.perf_counter() - begin, 2)
        more["computed_on"] = f"{socket.gethostname()} ({segmenter.device})"
        return Outcome(case.name, str(case.image), status, **more)

    try:
        progress(0.0, "Reading the scan")
        # Before it is read: should it change meanwhile, the next run sees another image.
        identity = _identity(case.image)
        scan = read_image(case.image)
        prompts, modality, sentence = prompts_for(segmenter.pack, scan, question)
        result = segmenter.segment(
            scan.image,
            prompts,
            roi=question.roi,
            modality=modality,
            progress=lambda fraction, message: progress(0.9 * fraction, message),
        )
        progress(0.9, "Writing the results")
        files = write_results(result, case.name, folder, uncertainty=question.uncertainty)
        guess = [sentence] if sentence and not (question.modality or scan.modality) else []
        done = outcome(
            DONE,
            warnings=[*scan.warnings, *guess, *result.warnings],
            volumes_ml={task: round(ml, 4) for task, ml in result.volumes_ml.items()},
            files=[file.name for file in files],
        )
        record = {
            "format": _FORMAT,
            "made_by": f"versemi {__version__}",
            "finished": _now(),
            **identity,
            "asked": question.to_json(),
            "pack": pack_facts(segmenter.pack),
            **{key: value for key, value in asdict(done).items() if key not in ("case", "status")},
        }
        write_text(_json(record), _record_path(case.name, folder))
        return done
    except Exception as error:  # the next case may well be a good one
        return outcome(FAILED, reason=reason_of(error))


def reason_of(error: Exception) -> str:
    """An error's sentence; of one that nobody foresaw, with where it was raised."""
    if isinstance(error, VersemiError):
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code if trace else None
    where = f" in {Path(code.co_filename).name}, {code.co_name}" if code else ""
    text = " ".join(str(error).split())
    return f"An unexpected error{where}: {type(error).__name__}{': ' if text else ''}{text}."


# What is done -----------------------------------------------------------------------------------


def pack_facts(pack: ModelPack) -> dict[str, str]:
    """What tells one pack from another; a changed manifest changes results, too."""
    manifest = json.dumps(pack.manifest.to_json(), sort_keys=True).encode()
    return {
        "name": pack.name,
        "version": pack.version,
        "weights_sha256": pack.digest,
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    }


def find_cases(images: Sequence[Path], folder: Path) -> list[Case]:
    """Name the images so that their results do not collide, with each other or with earlier ones.

    An image that has results in `folder` keeps its name, and no other image gets it, except a
    copy of the very same scan from another place.
    """
    records = {}
    for path in sorted(folder.glob(f"[!.]*{RECORD_SUFFIX}")):
        if record := _read_record(path):
            records[path.name.removesuffix(RECORD_SUFFIX)] = record
    named = {record["image"]: name for name, record in records.items()}
    owners = {folded(name): record for name, record in records.items()}
    return name_cases(
        images,
        {image: named[str(image)] for image in images if str(image) in named},
        lambda image, name: name not in owners or _is_of(owners[name], image),
    )


def find_done(
    case: Case, question: Question, facts: Mapping[str, str], folder: Path
) -> Outcome | None:
    """The outcome of a case that is done, if it is.

    It is when its record says that the same was asked, of the same image, with the same pack
    (`facts`, see `pack_facts`), and the files are there. An image is the same if path, length and
    time of change are as they were, or else if its bytes are. Results that somebody has corrected
    since are left as they are.
    """
    record = _read_record(_record_path(case.name, folder))
    if (
        record is None
        or record["asked"] != question.to_json()
        or record["pack"] != facts
        or not all((folder / name).is_file() for name in record["files"])
        or not _is_of(record, case.image)
    ):
        return None
    kept = ("warnings", "volumes_ml", "files", "seconds", "computed_on")
    known = {key: record[key] for key in kept}
    return Outcome(case.name, str(case.image), ALREADY_DONE, **known)


def _record_path(name: str, folder: Path) -> Path:
    return folder / f"{name}{RECORD_SUFFIX}"


def _read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None where there is none that can be relied on."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == _FORMAT else None


def _identity(image: Path) -> dict[str, Any]:
    """What `_is_of` compares; nothing of a scan that cannot be read, which reading it will tell."""
    try:
        size, changed = stamp_of(image)
        return {"bytes": size, "changed_ns": changed, "sha256": digest_of(image)}
    except OSError:
        return {"bytes": None, "changed_ns": None, "sha256": None}


def _is_of(record: Mapping[str, Any], image: Path) -> bool:
    """Whether a record is of this image."""
    try:
        size, changed = stamp_of(image)
        if size != record["bytes"]:
            return False
        untouched = record["image"] == str(image) and changed == record["changed_ns"]
        return untouched or digest_of(image) == record["sha256"]
    except OSError:
        return False


# What became of them ----------------------------------------------------------------------------


class Report:
    """What became of every case, in the output folder as JSON and as a table.

    Args:
        cases: all that were asked for.
        question: what was asked of them.
        facts: the pack, see `pack_facts`.
        folder: where the report goes.
    """

    def __init__(
        self, cases: Sequence[Case], question: Question, facts: Mapping[str, str], folder: Path
    ) -> None:
        self.paths = (folder / f"{REPORT_NAME}.json", folder / f"{REPORT_NAME}.csv")
        self._asked, self._facts = question.to_json(), dict(facts)
        self._started = _now()
        self._outcomes = {
            case.name: Outcome(case.name, str(case.image), NOT_REACHED) for case in cases
        }

    def add(self, outcome: Outcome) -> None:
        """Take in what became of a case."""
        self._outcomes[outcome.case] = outcome

    def of(self, status: str) -> list[Outcome]:
        """The cases of one status, in the order of the command line."""
        return [outcome for outcome in self._outcomes.values() if outcome.status == status]

    @property
    def finished(self) -> int:
        """How many cases are not waiting any more."""
        return len(self._outcomes) - len(self.of(NOT_REACHED))

    def __len__(self) -> int:
        return len(self._outcomes)

    @property
    def summary(self) -> str:
        """How many are done, failed and so on, in words."""
        counts = Counter(outcome.status for outcome in self._outcomes.values())
        order = (DONE, ALREADY_DONE, FAILED, NOT_REACHED)
        return ", ".join(f"{counts[status]} {status}" for status in order if counts[status])

    def write(self) -> None:
        """Write both files; those of an earlier run are replaced.

        Raises:
            OutputError: they could not be written.
        """
        rows = [asdict(outcome) for outcome in self._outcomes.values()]
        report = {
            "made_by": f"versemi {__version__}",
            "started": self._started,
            "written": _now(),
            "pack": self._facts,
            "asked": self._asked,
            "summary": self.summary,
            "cases": rows,
        }
        write_text(_json(report), self.paths[0])
        prompts = sorted({prompt for row in rows for prompt in row["volumes_ml"]})
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([*_REPORT_COLUMNS, *(f"{prompt}_ml" for prompt in prompts)])
        for row in rows:
            row["warnings"] = " ".join(row["warnings"])
            volumes = [row["volumes_ml"].get(prompt, "") for prompt in prompts]
            writer.writerow([*(row[column] for column in _REPORT_COLUMNS), *volumes])
        # A path need not be UTF-8; JSON can hold it escaped.
        write_text(table.getvalue().encode("utf-8", "replace").decode(), self.paths[1])


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
