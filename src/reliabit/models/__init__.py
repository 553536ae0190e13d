"""Model families and their adapters, checkpoints, encoding, and the reference models."""
