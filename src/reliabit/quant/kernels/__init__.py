"""Faster ways to multiply by a packed weight, each checked against eager dequantization before it is used."""
