"""One of two processes that share the predictions between them and print what they compute together."""

import json
import os
import sys

import numpy as np
import torch
import torch.distributed as dist

import reliabit.metrics as reliability


def predictions() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 30, 301) / 30, generator.choice([0, 0.3, 0.6, 0.9, 1], 301)


def metrics() -> dict[str, torch.nn.Module]:
    return {
        "aurc": reliability.AURC(),
        "e_aurc": reliability.EAURC(),
        "augrc": reliability.AUGRC(),
        "prr": reliability.PredictionRejectionRatio(),
        "auroc": reliability.AUROC(criterion="any"),
        "coverage": reliability.CoverageAtRisk(0.4),
        "risk": reliability.RiskAtCoverage(0.8),
        "mass": reliability.AdaptiveCalibrationError(10),
        "width": reliability.CalibrationError(10),
        "brier": reliability.BrierScore(),
        "nll": reliability.NegativeLogLikelihood(),
        "phi": reliability.EffectiveReliability(cost=10, threshold=0.6),
        "suite": reliability.ReliabilitySuite(thresholds={10: 0.6}),
    }


def evaluate(start: int, stop: int) -> dict[str, float]:
    """Update every metric in two uneven steps with a part of the predictions."""
    values = {}
    confidence, accuracy = (torch.tensor(part)[start:stop] for part in predictions())
    for name, metric in metrics().items():
        metric.update(confidence[:7], accuracy[:7])
        metric.update(confidence[7:], accuracy[7:].float())
        value = metric.compute()
        values |= {name: value.item()} if torch.is_tensor(value) else {k: v.item() for k, v in value.items()}
    mean = reliability.MeanAccuracy()
    mean.update(accuracy)
    answers = reliability.VQAAccuracy()
    answers.update([str(i % 3) for i in range(start, stop)], [[str(i % 2)] * 10 for i in range(start, stop)])
    return values | {"mean": mean.compute().item(), "vqa": answers.compute().item()}


if __name__ == "__main__":
    rank, rendezvous = int(sys.argv[1]), sys.argv[2]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    sys.stdout.write(json.dumps(evaluate(*[(0, 100), (100, 301)][rank])))
    dist.destroy_process_group()
