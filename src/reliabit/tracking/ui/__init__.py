"""What the MLflow UI shows of runs and sweeps: columns, descriptions, saved views, and the addresses of all of them."""
