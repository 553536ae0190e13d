"""Answering questions, and the predictions table."""
