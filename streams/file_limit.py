"""How many files and sockets this process may hold: as many as the system lets it.

Shells start programs with a soft limit of 1,024 or so, for programs that use `select`. A gateway with 20,000 sockets
needs more, and may take it without asking: only the hard limit is the administrator's word.
"""

from __future__ import annotations

import contextlib
import sys


def raise_file_limit() -> int:
    """Sets the soft limit to the hard one and gives the limit in force; sys.maxsize where there is none."""
    try:
        import resource
    except ImportError:  # no such limits on this system
        return sys.maxsize
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems say "unlimited" and refuse it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
