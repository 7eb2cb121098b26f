"""Sample paths over several steps that keep the dependence between the steps: plain functions of arrays.

The Schaake shuffle: each step's samples are quantiles of its own forecast at evenly spaced levels, put in the
order that the outcomes of past windows had. So each step has exactly the distribution that was forecast, and
the steps go together as they did in the past (their empirical copula).

Source: Clark et al. 2004, "The Schaake shuffle"; Schefzik, Thorarinsdottir and Gneiting 2013, "Uncertainty
quantification in complex simulation models using ensemble copula coupling", for the copula's side of it.
"""

import numpy as np
from jaxtyping import Float, Int


def path_levels(count: int) -> tuple[float, ...]:
    """The levels of `count` samples: the middles of equal parts, (k - 1/2) / count."""
    return tuple(((np.arange(count) + 0.5) / count).tolist())


def path_ranks(
    past: Float[np.ndarray, "W P"], count: int, generator: np.random.Generator
) -> Int[np.ndarray, "N P"]:
    """The rank of each path among all at each step, 0 the lowest: those of windows drawn from the past.

    Args:
      past: the levels of past outcomes in their forecasts, or any ascending function of them such as
        `normal_scores`.
      count: number of paths. If it is larger than that of past windows, some are drawn again, and the
        order among those that are equal is drawn for each step.
    """
    windows, steps = past.shape
    rounds = [generator.permutation(windows) for _ in range(-(-count // windows))]
    drawn = past[np.concatenate(rounds)[:count]]
    ties = generator.random(drawn.shape)
    order = np.lexsort((ties, drawn), axis=0)
    ranks = np.empty((count, steps), np.int64)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(count)[:, None], order.shape), axis=0)
    return ranks


def shuffled(samples: Float[np.ndarray, "P N"], ranks: Int[np.ndarray, "N P"]) -> Float[np.ndarray, "N P"]:
    """Paths whose steps have the given samples, in the order of the ranks.

    Args:
      samples: of each step, ascending.
      ranks: see `path_ranks`.
    """
    return np.take_along_axis(samples.T, ranks, axis=0)
