"""Confidences of answers: what the decoding gives for free, recalibrations of it, and the Selector."""
