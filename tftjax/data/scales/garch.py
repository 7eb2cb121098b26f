"""GARCH, GJR-GARCH and EGARCH, all (1,1): a series' variance a row ahead, from the returns before it."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

Returns = Float[np.ndarray, " R"]

NORMAL_SIZE = math.sqrt(2 / math.pi)  # mean size of a normal shock
LARGEST_LOG = 100.0  # of a variance, so that an EGARCH that explodes stays a number
LARGEST_ALPHA = 2.0  # a fit of more has converged to nonsense, as of returns that hardly move


class Kind(NamedTuple):
    """A recursion of variances: arguments of `arch.arch_model`, and whether it is of log variance."""

    arguments: Mapping[str, Any]
    of_logs: bool = False


KINDS = {
    "garch": Kind({"vol": "GARCH", "o": 0}),
    "gjr_garch": Kind({"vol": "GARCH", "o": 1}),
    "egarch": Kind({"vol": "EGARCH", "o": 1}, of_logs=True),
}


class Garch(NamedTuple):
    """Parameters for returns as decimals.

    Attributes:
      start: variance of the first row.
      kind: name in KINDS.
      residuals: distribution of the likelihood: "normal", "t" or "skewt".
      shape: parameters of that distribution.
    """

    mu: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    start: float
    kind: str = "gjr_garch"
    residuals: str = "normal"
    shape: tuple[float, ...] = ()


def fit_garch(train: Returns, kind: str, residuals: str = "normal") -> Garch | None:
    """Parameters of largest likelihood on train returns, by the package `arch`.

    Args:
      train: consecutive returns, as decimals.
      kind: name in KINDS.
      residuals: distribution of the shocks: "normal", "t" or "skewt".
    Returns:
      None if the fit does not converge.
    """
    from arch import arch_model  # a second to import, and only evaluation needs it

    scale = float(np.std(train))  # the optimizer is made for returns of spread 1
    if scale == 0:
        return None
    arguments = KINDS[kind].arguments
    model = arch_model(train / scale, mean="Constant", p=1, q=1, dist=residuals, rescale=False, **arguments)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # failures are in the flag and in the numbers
        result = model.fit(disp="off", show_warning=False)
    parameters = {name: float(value) for name, value in result.params.items()}
    sane = np.isfinite(list(parameters.values())).all() and abs(parameters["beta[1]"]) < 1
    if result.convergence_flag or not sane or abs(parameters["alpha[1]"]) > LARGEST_ALPHA:
        return None
    omega, beta = parameters["omega"], parameters["beta[1]"]
    return Garch(
        mu=parameters["mu"] * scale,
        omega=omega + 2 * (1 - beta) * math.log(scale) if KINDS[kind].of_logs else omega * scale**2,
        alpha=parameters["alpha[1]"],
        gamma=parameters.get("gamma[1]", 0.0),
        beta=beta,
        start=scale**2,
        kind=kind,
        residuals=residuals,
        shape=tuple(parameters[name] for name in model.distribution.parameter_names()),
    )


def residual_quantiles(garch: Garch, quantiles: Sequence[float]) -> Float[np.ndarray, " Q"] | None:
    """Quantiles of the shocks by the distribution that was fitted; None for the normal."""
    from arch.univariate import SkewStudent, StudentsT

    if garch.residuals == "normal":
        return None
    distribution = {"t": StudentsT, "skewt": SkewStudent}[garch.residuals]()
    return np.asarray(distribution.ppf(np.asarray(quantiles), np.asarray(garch.shape)))


def filter_variance(garch: Garch, returns: Returns) -> Float[np.ndarray, " R+1"]:
    """One-step variance of each row from the returns before it, and of the row after the last.

    >>> garch = Garch(mu=0.0, omega=1.0, alpha=0.5, gamma=1.0, beta=0.25, start=4.0)
    >>> filter_variance(garch, np.array([2.0, -2.0])).tolist()
    [4.0, 4.0, 8.0]
    """
    variance = [garch.start]
    # Plain floats: a recursion over rows is several times faster than on numpy's numbers.
    shocks = (returns - garch.mu).tolist()
    if KINDS[garch.kind].of_logs:
        for shock in shocks:
            ratio = shock / math.sqrt(variance[-1])
            answer = garch.alpha * (abs(ratio) - NORMAL_SIZE) + garch.gamma * ratio
            logarithm = garch.omega + answer + garch.beta * math.log(variance[-1])
            variance.append(math.exp(min(max(logarithm, -LARGEST_LOG), LARGEST_LOG)))
        return np.array(variance)
    for shock in shocks:
        weight = garch.alpha + (garch.gamma if shock < 0 else 0.0)
        variance.append(garch.omega + weight * shock * shock + garch.beta * variance[-1])
    return np.array(variance)


def later_variances(
    garch: Garch, first: Float[np.ndarray, " N"], shocks: Float[np.ndarray, " M"], steps: int
) -> Float[np.ndarray, "N P"]:
    """Expected variance of each of the next `steps` rows, given that of the first.

    s_{h+1}^2 = omega + (alpha E[z^2] + gamma E[z^2; z < 0] + beta) s_h^2. Of EGARCH the
    expectation is taken of the logarithm, which makes it a little too small:
    log s_{h+1}^2 = omega + alpha (E|z| - sqrt(2 / pi)) + gamma E[z] + beta log s_h^2.

    Args:
      first: one-step variances.
      shocks: standardised residuals z that the expectations are taken over.
    """
    variances = np.empty((len(first), steps))
    variances[:, 0] = first
    if KINDS[garch.kind].of_logs:
        answer = garch.alpha * (np.abs(shocks).mean() - NORMAL_SIZE) + garch.gamma * shocks.mean()
        for step in range(1, steps):
            variances[:, step] = np.exp(garch.omega + answer + garch.beta * np.log(variances[:, step - 1]))
        return variances
    squares = np.square(shocks)
    persistence = garch.alpha * squares.mean() + garch.gamma * (squares * (shocks < 0)).mean() + garch.beta
    for step in range(1, steps):
        variances[:, step] = garch.omega + persistence * variances[:, step - 1]
    return variances
