"""Evidence against "the risk of the accepted answers exceeds alpha", and the bounds that the same evidence gives.

Each p-value is for one threshold that was fixed before the calibration data were seen, n accepted answers and their
losses in [0, 1], independent and identically distributed. A small one certifies; with nothing accepted it is 1.
"""

from collections.abc import Callable

import numpy as np

from reliabit.metrics.functional.inputs import FloatArray

# A sum of tenths is rarely whole in floating point; a true remainder is never this small.
_CEIL_SLACK = 1e-9
_BISECTIONS = 60


def binomial_p_value(n_accepted: int, n_wrong: int, risk: float) -> float:
    """Exact binomial tail P(Bin(n, alpha) <= k) for k wrong of n accepted answers, whose losses are 0 or 1.

    >>> round(binomial_p_value(299, 0, 0.01), 6)
    0.049536
    """
    from scipy.special import bdtr

    return float(bdtr(n_wrong, n_accepted, risk)) if n_accepted else 1.0


def hoeffding_bentkus_p_value(n_accepted: int, loss_sum: float, risk: float) -> float:
    """Hoeffding-Bentkus p-value for losses in [0, 1] (Bates et al. 2021, Angelopoulos et al. 2021).

    min(exp(-n kl(r, alpha)), e P(Bin(n, alpha) <= ceil(s))) for a loss of s in all, with r = s/n < alpha, else 1.

    >>> round(hoeffding_bentkus_p_value(1000, 10.4, 0.02), 6)
    0.055565
    """
    from scipy.special import bdtr, xlogy

    if not n_accepted or loss_sum >= n_accepted * risk:
        return 1.0
    mean = loss_sum / n_accepted
    if risk >= 1:
        return 0.0
    divergence = xlogy(mean, mean / risk) + xlogy(1 - mean, (1 - mean) / (1 - risk))
    bentkus = np.e * bdtr(np.ceil(loss_sum - _CEIL_SLACK), n_accepted, risk)
    return float(min(np.exp(-n_accepted * divergence), bentkus, 1.0))


def betting_p_value(losses: FloatArray, risk: float, *, delta: float) -> float:
    """Betting p-value for losses in [0, 1], sharp where their variance is small (Waudby-Smith and Ramdas 2024).

    The capital K_t = prod_{i<=t} (1 - b_i (L_i - alpha)) of a gambler who bets on a smaller risk is, if the risk is
    alpha or more, a non-negative supermartingale; by Ville's inequality 1 / max K_t is a p-value. The bets
    b_i = min(1, sqrt(2 ln(1/delta) / (n v_{i-1}))) use the regularised running variance v.

    Args:
        losses: Shape `(n,)` in [0, 1], in an order that was fixed without regard to them or to the confidences.
        risk: alpha.
        delta: The level that the bets aim at; any value is valid.

    >>> losses = np.tile([0, 0.1, 0, 0, 0.4, 0, 0, 0, 0, 0], 20)
    >>> round(betting_p_value(losses, 0.1, delta=0.1), 9)
    0.000394394
    """
    if not len(losses):
        return 1.0
    with np.errstate(divide="ignore"):
        capital = np.cumsum(np.log1p(-_bets(losses, delta) * (losses - risk)))
    return float(min(1.0, np.exp(-capital.max())))


def _bets(losses: FloatArray, delta: float) -> FloatArray:
    count = np.arange(1, len(losses) + 1)
    mean = (0.5 + np.cumsum(losses)) / (count + 1)
    variance = (0.25 + np.cumsum((losses - mean) ** 2)) / (count + 1)
    # Bet i may only know what came before it.
    known = np.append(0.25, variance[:-1])
    bets: FloatArray = np.minimum(1.0, np.sqrt(2 * np.log(1 / delta) / (len(losses) * known)))
    return bets


def upper_bound(p_value: Callable[[float], float], delta: float) -> float:
    """The smallest risk that the evidence rejects at level delta, by bisection of a p-value that falls with the risk.

    It lies in [0, 1], and is 1 where nothing is rejected.

    >>> round(upper_bound(lambda risk: binomial_p_value(299, 0, risk), 0.05), 6)
    0.009969
    """
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if p_value(middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def fewest_accepted(risk: float, delta: float) -> int:
    """How many accepted answers, all right, it takes to certify a risk: ceil(ln delta / ln(1 - alpha)).

    >>> fewest_accepted(0.01, 0.05)
    299
    """
    return int(np.ceil(np.log(delta) / np.log1p(-risk)))
