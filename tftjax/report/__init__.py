"""One HTML page a run, sweep or walk-forward."""
