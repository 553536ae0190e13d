"""Tracking: the store, the runs in it, sweeps as parent runs, and figures."""
