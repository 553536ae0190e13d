"""Data: sources of questions, and the VQA tables that are prepared of them.

Come in by `sources` (settings, registry), `prepared_table` (prepare, load), `table` (rows), `shifts` and `mixtures`.
"""
