"""The confidence estimators; each registers itself where it is defined."""
