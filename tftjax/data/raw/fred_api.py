"""Raw series from FRED's web service, with ALFRED's release dates: fetched once, kept as CSV files."""

import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tftjax.data.feature_sets import SERIES
from tftjax.errors import UserError
from tftjax.files import replace_text

BASE_URL = "https://api.stlouisfed.org/fred"
EARLIEST, LATEST = "1776-07-04", "9999-12-31"  # the service's limits: all vintages
PAGE = 100_000  # observations an answer, the service's maximum
TIMEOUT_S = 30.0
WAITS_S = (1.0, 4.0, 16.0, 60.0)  # before each further try; the service allows 120 requests a minute


def download(
    names: tuple[str, ...],
    folder: Path,
    key: str,
    base_url: str = BASE_URL,
    waits_s: tuple[float, ...] = WAITS_S,
    timeout_s: float = TIMEOUT_S,
    say: Callable[[str], None] = print,
) -> None:
    """Fetches the series that the folder does not hold yet, each into `NAME.csv`, as soon as it is whole.

    Series of low frequency come with all vintages, `observation_date,release_date,NAME`. Daily ones, which
    the makers hardly ever revise and of which the service gives no more than 2,000 vintages an answer, come
    as they stand today, `observation_date,NAME`; their release dates follow the documented rule.

    Args:
      names: series identifiers.
      folder: made if it is missing; a file in it is never replaced.
      key: the service's key, 32 characters.
      waits_s: seconds before each further try after a failure that may pass (429, 5xx, no answer in time).

    Raises:
      UserError: a wrong address or key, an unknown series, or no answer. What came before is kept.
    """
    if not re.fullmatch(r"https?://[!-~]+", base_url):  # urllib's error would show the key
        raise UserError(f"--base-url: found {base_url!r}, expected an address such as {BASE_URL}.")
    missing = [name for name in names if not (folder / f"{name}.csv").exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}).") from error
    for name in missing:
        with_releases = SERIES[name].frequency != "daily"
        try:
            rows = _observations(name, with_releases, key, base_url, waits_s, timeout_s)
        except UserError as error:  # whatever the service says, the key is in no message
            secrets = re.compile("|".join(map(re.escape, {key, urllib.parse.quote_plus(key)})))
            raise UserError(secrets.sub("(the key)", str(error))) from None
        if not rows:
            raise UserError(f"{name}: the service answered without any observation. Check the identifier.")
        replace_text(folder / f"{name}.csv", _csv(name, rows, with_releases))
        say(f"{name}: {len(rows)} values fetched")


def _csv(name: str, rows: list[dict[str, str]], with_releases: bool) -> str:
    if with_releases:
        cells = sorted((row["date"], row["realtime_start"], row["value"]) for row in rows)
        header = f"observation_date,release_date,{name}"
    else:
        cells = sorted((row["date"], row["value"]) for row in rows)
        header = f"observation_date,{name}"
    return "\n".join([header, *(",".join(line) for line in cells)]) + "\n"


def _observations(
    name: str,
    with_releases: bool,
    key: str,
    base_url: str,
    waits_s: tuple[float, ...],
    timeout_s: float,
) -> list[dict[str, str]]:
    """All observations of a series, page by page."""
    query = {"series_id": name, "api_key": key, "file_type": "json", "limit": PAGE}
    if with_releases:
        query |= {"realtime_start": EARLIEST, "realtime_end": LATEST}
    rows: list[dict[str, str]] = []
    while True:
        url = f"{base_url}/series/observations?{urllib.parse.urlencode(query | {'offset': len(rows)})}"
        answer = _get(url, name, waits_s, timeout_s)
        try:
            page, count = answer["observations"], int(answer["count"])
            rows += [{part: row[part] for part in ("date", "realtime_start", "value")} for row in page]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{name}: the service's answer has no readable observations ({error!r})."
            ) from error
        if len(rows) >= count or not page:
            return rows


def _get(url: str, name: str, waits_s: tuple[float, ...], timeout_s: float) -> Any:
    """One request, tried again after failures that may pass. Never shows the URL: it holds the key."""
    problem = ""
    for wait in (0.0, *waits_s):
        time.sleep(wait)
        try:
            with urllib.request.urlopen(url, timeout=timeout_s) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            problem = f"{error.code}: {_reason(error)}"
            if error.code != 429 and error.code < 500:
                raise UserError(
                    f"{name}: the service refused the request ({problem}). Check the key in FRED_API_KEY"
                    " and the series' name."
                ) from None
        # No connection, too slow, cut off halfway, or no JSON.
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
    raise UserError(
        f"{name}: no answer from the service after {len(waits_s) + 1} tries ({problem}). What was fetched"
        " before is kept: run the command again later to go on."
    )


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error_message"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return str(error.reason)
