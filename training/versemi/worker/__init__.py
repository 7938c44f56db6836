"""The engine as a child process: ``python -m versemi.worker [--pack PACK] [--device auto]``.

Requests come in on stdin and events go out on stdout, one JSON object a line, UTF-8::

    {"id": 1, "command": "segment", "image": PATH, "tasks": ["spleen"], "roi": {...} | null,
     "modality": "CT" | "MR" | null, "uncertainty": false, "output": DIR}
    {"id": 2, "command": "keep", "library": DIR, "image": PATH, "labels": PATH | null,
     "prompts": ["spleen"], "predicted": PATH | null, "parent": PACK VERSION | null,
     "modality": "CT" | "MR" | null, "name": NAME, "source": WHERE IT CAME FROM}
    {"id": 3, "command": "export", "segmentation": PATH.seg.nrrd, "series": [PATH, ...] | null,
     "image": PATH | null, "modality": "CT" | "MR" | null, "name": NAME, "output": PATH.dcm}
    {"id": 4, "command": "cancel", "request": 1}
    {"id": 5, "command": "list_tasks"}
    {"id": 6, "command": "quit"}

    {"event": "ready", "pack": NAME, "version": VERSION, "device": DEVICE, "warnings": [...]}
    {"event": "progress", "id": 1, "fraction": 0.31, "message": SENTENCE}
    {"event": "result", "id": 1, "label_map": PATH, "uncertainty": PATH | null, "labels": {...},
     "volumes_ml": {...}, "warnings": [...], "timings": {...}, "device": DEVICE}
    {"event": "result", "id": 2, "case": CASE, "version": 1, "message": SENTENCE}
    {"event": "result", "id": 3, "files": [PATH, ...], "message": SENTENCE}
    {"event": "result", "id": 5, "tasks": [{"id": ..., "name": ..., ...}]}
    {"event": "error", "id": 1 | null, "kind": "input" | "pack" | "output" | "internal",
     "message": SENTENCE}
    {"event": "cancelled", "id": 1}
    {"event": "bye"}

``--pack`` is a folder, ``NAME@VERSION`` of the model store, or ``shipped``. Without it the active
pack answers; where that cannot be used the one that ships does, and a warning in ``ready`` says so.

``keep`` puts a scan into a library: with ``labels``, whose voxels have the label values of
``prompts``, as a corrected case, and without as a scan to learn from. ``export`` writes a DICOM
SEG beside the DICOM files of ``series``; where these are null, it makes a series of ``image``
first.

Requests run one after the other. A bad one is answered with an error and forgotten; a bad pack
ends the process with code 2. ``quit`` cancels what runs, and so does the end of stdin, which
means that the parent is gone. Only the standard library is imported before the pipes are safe:
whatever a library prints to stdout goes to stderr.
"""

from versemi.worker.server import Worker, main, serve

__all__ = ["Worker", "main", "serve"]
