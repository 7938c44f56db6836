"""A simulated user: scans arrive, corrections come one by one, the pack learns, and it is measured.

``simulation.yaml`` describes the stories; ``versemi simulate`` runs them and writes
``docs/learning.md`` from ``docs/learning.json``.
"""
