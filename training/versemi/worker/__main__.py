"""Run the worker on this process's own stdin and stdout."""

import os
import sys

from versemi.worker.server import main

if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:
        code = 130
    # The reader's thread waits in a read that nothing can interrupt: leave without it.
    sys.stderr.flush()
    os._exit(code)
