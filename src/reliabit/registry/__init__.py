"""Which configuration goes live: measured evidence, the gate, and the versions that MLflow's registry keeps."""
