"""Whether served answers still look like the calibration sample: two e-processes, and a watch that reports on them."""
