"""Models: families, checkpoints, what encodes questions for them, and the reference models.

Come in by `settings`, `families` (adapters, registry), `checkpoint_folder` (without torch), `loading` and `encoding`.
"""
