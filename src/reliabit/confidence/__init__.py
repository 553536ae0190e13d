"""Confidences of answers: what the decoding gives for free, recalibrations of it, and the Selector.

Come in by `settings`, `estimator` (the registry), `examples`, `leakage`, and `selector_store` for trained Selectors.
"""
