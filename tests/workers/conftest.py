"""Variables that Ray reads at its first import: it listens to this machine alone, and tells nobody."""

from __future__ import annotations

import os

from tokenrank.workers.cluster import BEFORE_IMPORT, LOOPBACK

for name, value in (BEFORE_IMPORT | {LOOPBACK: "0"}).items():
    os.environ.setdefault(name, value)
