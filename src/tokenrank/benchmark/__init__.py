"""What the library costs on this machine, as ratios inside one run: ``tokenrank bench``.

A section (``chains.py``, ``captures.py``, ``pages.py``, ``evaluations.py``) measures ours and what it is compared with
in turn, and yields a row as soon as it has one; ``measure.py`` runs the sections and keeps the rows whatever happens;
``report.py`` writes them as JSON and as a table. They measure with ``heads.py``, ``loop.py``, ``clock.py`` and
``rates.py``. Nothing here needs more than the installed package.
"""

from .measure import measure
from .report import Report, read_report
from .rows import Row
from .task import Section, Task

__all__ = ["Report", "Row", "Section", "Task", "measure", "read_report"]
