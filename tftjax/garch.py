"""GARCH(1,1) and GJR-GARCH(1,1): fitted by `arch` on train returns, filtered forward with fixed parameters.

r_t = mu + s_t z_t,  s_t^2 = omega + (alpha + gamma [e < 0]) e^2 + beta s_{t-1}^2  with e = r_{t-1} - mu
(Bollerslev 1986; Glosten, Jagannathan and Runkle 1993; gamma = 0 without asymmetry).
"""

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Returns = Float[np.ndarray, " R"]


class Garch(NamedTuple):
    """Parameters, returns as decimals; `start` is the variance before the first row."""

    mu: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    start: float


def fit_garch(train: Returns, *, asymmetric: bool) -> Garch | None:
    """Parameters of largest Gaussian likelihood on train returns, as decimals.

    Args:
        train: consecutive returns.
        asymmetric: whether gamma is estimated; else it is 0.
    Returns:
        The parameters, None if the fit does not converge.
    Source: the package `arch`, Kevin Sheppard.
    """
    from arch import arch_model  # a second to import, and only evaluation needs it

    scale = float(np.std(train))  # returns of spread 1 are what the optimizer is made for
    if scale == 0:
        return None
    model = arch_model(
        train / scale, mean="Constant", vol="GARCH", p=1, o=int(asymmetric), q=1, rescale=False
    )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what goes wrong is in the flag and in the numbers
        result = model.fit(disp="off", show_warning=False)
    found = dict(result.params)
    if result.convergence_flag or not all(np.isfinite(value) for value in found.values()):
        return None
    return Garch(
        mu=found["mu"] * scale,
        omega=found["omega"] * scale**2,
        alpha=found["alpha[1]"],
        gamma=found.get("gamma[1]", 0.0),
        beta=found["beta[1]"],
        start=scale**2,
    )


def filter_variance(garch: Garch, returns: Returns) -> Float[np.ndarray, " R+1"]:
    """One-step variance: of each row from the returns before it, and, last, of the row after the last.

    The first row has no past: its variance is `garch.start`.
    """
    variance = np.empty(len(returns) + 1)
    variance[0] = garch.start
    # Plain floats: a recursion over rows is several times faster than on numpy's numbers.
    current = garch.start
    for row, shock in enumerate((returns - garch.mu).tolist(), start=1):
        weight = garch.alpha + (garch.gamma if shock < 0 else 0.0)
        current = garch.omega + weight * shock * shock + garch.beta * current
        variance[row] = current
    return variance


def later_variances(
    garch: Garch, first: Float[np.ndarray, " N"], shocks: Float[np.ndarray, " M"], steps: int
) -> Float[np.ndarray, "N P"]:
    """Variance of each of the next `steps` rows, given that of the first.

    s_{h+1}^2 = omega + (alpha E[z^2] + gamma E[z^2; z < 0] + beta) s_h^2 in expectation.

    Args:
        first: one-step variances.
        shocks: standardised residuals z that the expectations are taken over.
    """
    squares = np.square(shocks)
    persistence = garch.alpha * squares.mean() + garch.gamma * (squares * (shocks < 0)).mean() + garch.beta
    variances = np.empty((len(first), steps))
    variances[:, 0] = first
    for step in range(1, steps):
        variances[:, step] = garch.omega + persistence * variances[:, step - 1]
    return variances
