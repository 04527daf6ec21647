"""`make bench`: Inferway beside its peers, one run, one machine, one model; writes docs/performance.md.

A *system* is what answers: one peer, or Inferway with its engine. `systems.py` says how each is started,
`sources.py` how it is asked; `closed_loop.py`, `grpc_loop.py` and `http_client.py` send; `answers.py` checks;
`processes.py` reads what a process has cost. One file each for the parts of the page: `comparison.py`,
`cost.py`, `added_latency.py`, `larger_models.py`; `report.py` and `plots.py` write them down.
"""
