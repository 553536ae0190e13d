"""Quantizing checkpoints that need not fit into memory: from safetensors to safetensors, a layer at a time."""
