"""Run cases in worker processes, on this machine or on a cluster."""
