"""Time and memory of the metrics, beside a straightforward reference and torch-uncertainty in the same run.

    PYTHONPATH=src python bench/metrics.py

Prints a table and writes `bench/results/metrics.json`. Limits: all metrics of 1 000 000 predictions with ties in 3 s
and 1 GiB; 1 000 bootstrap resamples of all metrics of 100 000 predictions in 30 s on two cores.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reliabit.metrics import Predictions, cluster_bootstrap, evaluate

RESULTS = Path(__file__).parent / "results" / "metrics.json"
THRESHOLDS = {1: 0.3, 10: 0.7, 100: 0.9}


def draw(n: int, *, ties: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidences, VQA accuracies and image numbers; with ties, a tenth saturates and the rest has four decimals."""
    generator = np.random.default_rng(seed)
    confidence = generator.beta(4, 1.2, n)
    right = generator.random(n) < 0.2 + 0.75 * confidence
    accuracy = right * generator.choice([0.3, 0.6, 0.9, 1.0], n, p=[0.05, 0.1, 0.15, 0.7])
    if ties:
        confidence = np.where(generator.random(n) < 0.1, 1.0, confidence.round(4))
    return confidence, accuracy, generator.integers(0, 2 * n // 5, n)


def reference(confidence: np.ndarray, accuracy: np.ndarray) -> dict[str, float]:
    """Twelve of the metrics the way one writes them down: a sort each, numpy throughout, ties left to the sort."""

    def curve() -> np.ndarray:
        loss = (1 - accuracy)[np.argsort(-confidence, kind="stable")]
        return np.cumsum(loss) / np.arange(1, len(loss) + 1)

    coverage = np.arange(1, len(accuracy) + 1) / len(accuracy)
    values = {"accuracy/mean": accuracy.mean(), "calibration/brier": ((confidence - accuracy) ** 2).mean()}
    values["selective/aurc"] = np.trapezoid(curve(), coverage)
    values["selective/augrc"] = np.trapezoid(curve() * coverage, coverage)
    for risk in (0.005, 0.01, 0.05):
        met = np.flatnonzero(curve() <= risk)
        values[f"coverage_at_{risk}"] = coverage[met[-1]] if len(met) else 0.0
    for cost, threshold in THRESHOLDS.items():
        answered = confidence >= threshold
        values[f"phi_{cost}"] = np.where(answered, np.where(accuracy > 0, accuracy, -cost), 0).mean()
    for n_bins in (10, 15):
        bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
        gap = np.bincount(bins, weights=accuracy - confidence, minlength=n_bins)
        values[f"ece_{n_bins}"] = np.abs(gap).sum() / len(accuracy)
    return {name: float(value) for name, value in values.items()}


def reference_bootstrap(data: tuple[np.ndarray, np.ndarray, np.ndarray], n_resamples: int) -> None:
    """Copy the rows of the drawn images and compute the reference again."""
    confidence, accuracy, images = data
    order = np.argsort(images, kind="stable")
    starts = np.searchsorted(images[order], np.arange(images.max() + 2))
    generator = np.random.default_rng(0)
    for _ in range(n_resamples):
        drawn = generator.integers(0, len(starts) - 1, len(starts) - 1)
        rows = np.concatenate([order[starts[image] : starts[image + 1]] for image in drawn])
        reference(confidence[rows], accuracy[rows])


def torch_uncertainty_aurc() -> Callable[[np.ndarray, np.ndarray], float] | None:
    """Its AURC from the module alone, because the package as a whole also needs torchvision."""
    package = importlib.util.find_spec("torch_uncertainty")
    if package is None or package.origin is None:
        return None
    import torch

    path = Path(package.origin).parent / "metrics" / "classification" / "risk_coverage.py"
    spec = importlib.util.spec_from_file_location("torch_uncertainty_risk_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def aurc(confidence: np.ndarray, correct: np.ndarray) -> float:
        metric = module.AURC()
        halves = torch.tensor(0.5 + confidence / 2)
        metric.update(torch.stack([halves, 1 - halves], dim=1), torch.tensor(1 - correct))
        return float(metric.compute())

    return aurc


def timed(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median, least and most seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds), "repeats": repeats}


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n_resamples: int) -> dict[str, dict[str, float]]:
    """Every row of the table, ours first, so that the peak memory is ours alone."""
    rows: dict[str, dict[str, float]] = {}
    for name, ties in (("ties", True), ("no ties", False)):
        confidence, accuracy, _ = draw(1_000_000, ties=ties)
        call = lambda c=confidence, a=accuracy: evaluate(Predictions(c, a, THRESHOLDS))  # noqa: E731
        rows[f"all metrics, 1M, {name}"] = timed(call, 5) | {"metrics": len(call()), "peak_mib": peak_mib()}
    untied = draw(100_000, ties=False)
    configuration = {"x": Predictions(*untied[:2], THRESHOLDS)}
    call = lambda: cluster_bootstrap(configuration, untied[2], n_resamples=n_resamples)  # noqa: E731
    rows[f"{n_resamples} resamples, 100k, no ties, 1 thread"] = timed(call, 1) | {"peak_mib": peak_mib()}
    data = draw(100_000, ties=True)
    configuration = {"x": Predictions(*data[:2], THRESHOLDS)}
    for workers in (1, 2):
        call = lambda w=workers: cluster_bootstrap(configuration, data[2], n_resamples=n_resamples, workers=w)  # noqa: E731
        rows[f"{n_resamples} resamples, 100k, ties, {workers} thread(s)"] = timed(call, 1) | {"peak_mib": peak_mib()}
    rows |= measure_peers(data, n_resamples)
    return rows


def measure_peers(data: tuple[np.ndarray, np.ndarray, np.ndarray], n_resamples: int) -> dict[str, dict[str, float]]:
    """The reference and torch-uncertainty on the same data."""
    confidence, accuracy, _ = draw(1_000_000, ties=True)
    rows = {"reference: 12 metrics, 1M, ties": timed(lambda: reference(confidence, accuracy), 3) | {"metrics": 12}}
    drawn = timed(lambda: reference_bootstrap(data, 5), 1)
    rows[f"reference: {n_resamples} resamples of 12 metrics, 100k (from 5)"] = {
        "median_s": drawn["median_s"] / 5 * n_resamples,
        "metrics": 12,
    }
    theirs = torch_uncertainty_aurc()
    if theirs is not None:
        from reliabit.metrics.functional import aurc

        confidence, accuracy, _ = draw(1_000_000, ties=False)
        correct = (accuracy >= 0.5).astype(int)
        rows["torch-uncertainty: AURC, 1M, no ties"] = timed(lambda: theirs(confidence, correct), 3)
        rows["ours: AURC alone, 1M, no ties"] = timed(lambda: aurc(confidence, correct), 3)
        factor = 1 - 1 / len(correct)
        ours, other = aurc(confidence, correct), theirs(confidence, correct) * factor
        rows["AURC, ours and theirs after the factor"] = {"ours": ours, "theirs": other, "difference": ours - other}
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=1000)
    rows = measure(parser.parse_args().resamples)
    for name, row in rows.items():
        figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items())
        print(f"{name:<58} {figures}")
    setting = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"setting": setting, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
