"""Answers of any model, from a file of confidences: read, measured, and told."""
