"""Which samples, frames and replicas, in which order: NumPy only."""
