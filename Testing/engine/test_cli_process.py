"""The command line in processes of its own: how fast it answers, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from test_cli import save


def test_help_answers_within_a_second_and_imports_nothing_heavy(environment):
    begin = os.times()
    code = (
        "import sys\nfrom versemi.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'monai', 'SimpleITK', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    end = os.times()
    # Computing time of the child, which is the same on a busy machine.
    assert end.children_user + end.children_system - begin.children_user - begin.children_system < 1
    assert "segment" in done.stdout and done.stdout.splitlines()[-1] == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_ctrl_c_ends_without_a_traceback(tmp_path, environment):
    scan = save(tmp_path / "scan.nii.gz", np.arange(336.0).reshape(6, 7, 8))
    code = """
        import signal, sys, time
        import test_cli
        from versemi.cli import main, segment

        # A shell starts what it sends to the background with Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        class Slow(test_cli.StandIn):
            def segment(self, *args, **keywords):
                print("started", flush=True)
                time.sleep(30)

        segment.load_pack = lambda path: test_cli.PACK
        segment.make_segmenter = lambda pack, device: Slow()
        main(sys.argv[1:])
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), "segment", scan, "--all", "-o", tmp_path],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err


def test_python_m_versemi_is_the_same_command_line(tmp_path, environment):
    done = subprocess.run(
        [sys.executable, "-m", "versemi", "tasks", "--pack", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
