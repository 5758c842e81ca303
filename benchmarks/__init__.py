"""Side-by-side measurements against peers: same state, same machine, same run, one after the other in turns.

`python -m benchmarks.checkpoint`, `.planning`, `.training`, `.restart`, `.gpu`, from the root of the checkout. How each
figure is taken, and what it does not say, is in docs/performance.md.
"""
