"""Parts of ``benchmarks/guidance.py``: pictures of every arm, what is measured on them, the tables, the figure."""
