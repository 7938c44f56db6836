"""The case library: scans, corrections and unlabelled scans in one folder, safe against crashes.

``docs/library.md`` shows what lies in such a folder. Importing this package imports neither numpy
nor SimpleITK; reading what a library holds does not need them either.
"""

from versemi.caselibrary.case import Case
from versemi.caselibrary.library import CaseLibrary
from versemi.caselibrary.verification import Finding

__all__ = ["Case", "CaseLibrary", "Finding"]
