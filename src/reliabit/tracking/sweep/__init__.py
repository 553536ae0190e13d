"""A sweep as one run: opened before its cells, gone on with, and closed with the tables of what they measured."""
