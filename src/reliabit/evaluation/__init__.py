"""Evaluation: from predictions tables to reports, comparisons and figures; no model is needed."""
