"""Crashes, full disks, two writers and damage: nothing that was committed is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from pathlib import Path

import phantoms
import pytest
import SimpleITK as sitk

from versemi.caselibrary import CaseLibrary, transaction
from versemi.errors import OutputError

POSIX = pytest.mark.skipif(os.name != "posix", reason="looks at POSIX file systems")
SCAN = phantoms.ct(1)
LIVER = {"labels": phantoms.labels(SCAN, liver=[1]), "prompts": ["liver"]}
SPLEEN = {"labels": phantoms.labels(SCAN, spleen=[3]), "prompts": ["spleen"]}


class Crash(BaseException):
    """What no code expects."""


def add(library: CaseLibrary, **arguments):
    return library.add(SCAN, **{"name": "a", "modality": "CT", **arguments})


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@contextmanager
def interrupted(monkeypatch, moment: int):
    """Stop everything at this renaming or flushing; gives a list that fills up with them."""
    reached: list[str] = []

    def wrap(function, name):
        def wrapped(*arguments):
            reached.append(name)
            if len(reached) == moment:
                raise Crash
            return function(*arguments)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(transaction.os, "replace", wrap(os.replace, "rename"))
        patch.setattr(transaction.os, "fsync", wrap(os.fsync, "flush"))
        yield reached


@pytest.mark.parametrize("what", ["new", "correction"])
def test_wherever_an_add_stops_the_library_is_as_before_or_as_after(
    library, tmp_path, monkeypatch, what
):
    """Every moment in turn, where the random kills of another test find only some."""
    library.add(phantoms.ct(2), name="other", modality="CT")
    if what == "correction":
        add(library, **LIVER)
    before = library.cases()
    states = set()
    for moment in range(1, 100):
        folder = tmp_path / f"copy {moment}"
        shutil.copytree(library.folder, folder)
        copy = CaseLibrary.open(folder, wait=0)
        try:
            with interrupted(monkeypatch, moment):
                add(copy, **SPLEEN, predicted=LIVER["labels"])
        except Crash:
            pass
        else:
            break
        cases = copy.cases()
        states.add(len(cases[0].history) if what == "correction" else len(cases))
        # What is listed is there, whole.
        for case in cases:
            for path in filter(None, (case.image_path, case.label_path, case.predicted_path)):
                sitk.ReadImage(str(path))
        listed = json.loads((folder / "dataset.json").read_text())
        for entry in (*listed["training"], *listed["unlabelled"]):
            sitk.ReadImage(str(folder / entry["image"]))
        assert {finding.kind for finding in copy.verify()} <= {"leftover", "outdated"}
        assert copy.verify() == []
        # The next writer goes on, whatever lay about.
        if len(copy.cases()) == len(before) and len(cases[0].history) == len(before[0].history):
            assert add(copy, **SPLEEN).label_path.is_file()
            assert {case.name for case in copy.cases()} == {"a", "other"}
    assert moment > 10 and states == {1, 2}


@POSIX
def test_nothing_is_named_before_it_lies_on_the_disk(library, monkeypatch):
    events = []

    def flush(handle):
        events.append(("flush", os.fstat(handle).st_ino))

    def replace(source, target):
        events.append(("rename", os.stat(source).st_ino, Path(target)))
        os.rename(source, target)

    monkeypatch.setattr(transaction.os, "fsync", flush)
    monkeypatch.setattr(transaction.os, "replace", replace)
    add(library, **LIVER, predicted=LIVER["labels"])
    renames = [(index, *event[1:]) for index, event in enumerate(events) if event[0] == "rename"]
    assert [path.name for _, _, path in renames] == [
        "a.nii.gz",
        "label_v1.nii.gz",
        "predicted_v1.nii.gz",
        "case.json",
        "a.nii.gz",
        "dataset.json",
    ]
    record = next(index for index, _, path in renames if path.name == "case.json")
    for index, inode, path in renames:
        assert ("flush", inode) in events[:index], path
        entry = ("flush", path.parent.stat().st_ino)
        assert entry in events[index:], path
        if index < record:
            assert entry in events[index:record], path


def test_a_reader_sees_the_old_state_until_the_new_one_is_whole(library, monkeypatch):
    add(library, **LIVER)
    seen = []

    def replace(source, target, rename=os.replace):
        seen.append(CaseLibrary.open(library.folder).case("a"))
        rename(source, target)
        seen.append(CaseLibrary.open(library.folder).case("a"))

    monkeypatch.setattr(transaction.os, "replace", replace)
    add(library, **SPLEEN)
    versions = [case.version for case in seen]
    assert versions == sorted(versions) and set(versions) == {1, 2}
    # A case that was read before a correction stays readable after it.
    assert phantoms.planes(sitk.ReadImage(str(seen[0].label_path))) == [0, 5, 0, 0, 0]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_the_disk_refuses_is_one_sentence_and_changes_nothing(library, monkeypatch, code):
    add(library, **LIVER)
    before = {name: (library.folder / name).read_bytes() for name in files(library.folder)}

    def refuse(handle):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(transaction.os, "fsync", refuse)
        with pytest.raises(OutputError) as refused:
            add(library, **SPLEEN)
    words = "make room" if code == errno.ENOSPC else "check the permissions"
    assert words in str(refused.value) and "nothing in it has changed" in str(refused.value)
    assert before == {n: (library.folder / n).read_bytes() for n in files(library.folder)}
    assert add(library, **SPLEEN).version == 2


FULL_DISK = """
    import resource, sys
    import phantoms
    from versemi.caselibrary import CaseLibrary
    from versemi.errors import OutputError
    library = CaseLibrary.open(sys.argv[1])
    scan = phantoms.ct(2)
    for limit in (0, 40, 200, 1200):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            library.add(scan, name="b", modality="CT")
        except OutputError as error:
            print(error)
"""


@POSIX
def test_a_disk_that_is_full_in_the_middle_of_a_file_leaves_nothing_behind(library, environment):
    add(library, **LIVER)
    before = files(library.folder)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(library.folder)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all("is full" in line and "make room" in line for line in lines)
    assert files(library.folder) == before and library.verify() == []


READ_ONLY = """
    import os, sys
    import phantoms
    from versemi.caselibrary import CaseLibrary, adding, verification
    from versemi.errors import OutputError
    scan = phantoms.ct(2)
    if os.getuid() == 0:
        # Nothing is read-only for root. Python itself may lie where only root reads.
        os.setuid(65534)
    library = CaseLibrary.open(sys.argv[1])
    print([case.version for case in library.cases()], library.verify(set_aside=False))
    for change in (
        lambda: library.add(scan, name="b", modality="CT"),
        library.verify,
        lambda: CaseLibrary.create(sys.argv[1] + "/imagesTr/new"),
    ):
        try:
            change()
        except OutputError as error:
            print(error)
"""


@POSIX
def test_a_read_only_library_can_be_read_and_says_that_it_cannot_be_written(library, environment):
    add(library, **LIVER)
    # Not in a folder of the tests' own, which only their user may enter.
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(library.folder, folder, dirs_exist_ok=True)
    try:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.chmod(0o555 if path.is_dir() else 0o444)
        folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(READ_ONLY), str(folder)],
            capture_output=True,
            text=True,
            env=environment,
        )
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "[1] []" and len(lines) == 4
    assert all("written" in line and "permissions" in line for line in lines[1:])


HOLD = """
    import sys, time
    from versemi.caselibrary import CaseLibrary
    with CaseLibrary.open(sys.argv[1]).writing():
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_second_writer_is_told_and_a_killed_one_leaves_no_lock(library, environment):
    library = CaseLibrary.open(library.folder, wait=0.2)
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(library.folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert holder.stdout and holder.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match="Another program has been writing .* 0.2 seconds"):
        add(library)
    assert library.cases() == ()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert add(library).version == 0


def test_two_threads_of_one_process_take_turns(library):
    library = CaseLibrary.open(library.folder, wait=0)
    with (
        library.writing(),
        pytest.raises(OutputError, match="Another program"),
    ):
        add(library)
    assert add(library).version == 0


WRITE = """
    import sys
    import phantoms
    from versemi.caselibrary import CaseLibrary
    library = CaseLibrary.create(sys.argv[1])
    for number in range(8):
        scan = phantoms.ct(number)
        labels = phantoms.labels(scan, **{sys.argv[2]: [int(sys.argv[3])]})
        library.add(scan, name=f"n{number}", modality="CT", labels=labels, prompts=[sys.argv[2]])
"""


def test_two_writers_at_once_lose_nothing_of_each_other(tmp_path, environment):
    """Both make the library and correct the same scans, each under its own prompt."""
    folder = tmp_path / "new"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITE), str(folder), *arguments],
            env=environment,
        )
        for arguments in (("liver", "1"), ("spleen", "3"))
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    cases = CaseLibrary.open(folder).cases()
    assert [case.id for case in cases] == [f"n{number}" for number in range(8)]
    for case in cases:
        assert case.version == 2 and case.prompts == ("spleen", "liver")
        assert phantoms.planes(sitk.ReadImage(str(case.label_path))) == [0, 5, 0, 3, 0]
    assert CaseLibrary.open(folder).verify() == []
