"""The data floor: sources, splits, and prepared VQA tables."""
