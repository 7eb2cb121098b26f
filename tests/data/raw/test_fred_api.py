"""The web service's client against a local server that answers as the documented API does."""

import json
import sys
import threading
import time
import types
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from tftjax.data.__main__ import main
from tftjax.data.raw import fred_api
from tftjax.data.raw.fred_api import download
from tftjax.data.raw.fred_csv import read_fred_csv
from tftjax.errors import UserError

KEY = "0123456789abcdef0123456789abcdef"


class Service:
    """Answers of a pretended service: `series` by name, `failures` to give first, and what was asked."""

    def __init__(self):
        self.series, self.failures, self.asked = {}, [], []
        self.delay_s, self.cut_off_bytes = 0.0, 0  # before an answer; announced at its end and not sent

    def answer(self, query):
        """Status and content for a request."""
        if self.failures:
            return self.failures.pop(0)
        if query["api_key"] != KEY:
            return 400, {
                "error_code": 400,
                "error_message": "Bad Request. The api_key is not registered.",
            }
        if query["series_id"] not in self.series:
            return 400, {"error_code": 400, "error_message": "Bad Request. The series does not exist."}
        rows = self.series[query["series_id"]]
        if "realtime_start" not in query:
            rows = list({row["date"]: row for row in rows}.values())  # the last vintage
        offset, limit = int(query["offset"]), int(query["limit"])
        return 200, {"count": len(rows), "observations": rows[offset : offset + limit]}


@pytest.fixture
def service():
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            address = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(address.query))
            assert address.path == "/fred/series/observations"
            assert query["file_type"] == "json"
            service.asked.append(query)
            time.sleep(service.delay_s)
            status, content = service.answer(query)
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + service.cut_off_bytes))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    service.url = f"http://127.0.0.1:{server.server_port}/fred"
    yield service
    server.shutdown()
    server.server_close()


def row(date, released, value):
    return {"realtime_start": released, "realtime_end": "9999-12-31", "date": date, "value": value}


CPI = [
    row("2018-02-01", "2018-03-13", "."),
    row("2018-02-01", "2018-03-14", "249.5"),
    row("2018-01-01", "2018-02-14", "248.9"),
    row("2018-01-01", "2019-02-11", "248.7"),
]


def fetch(service, folder, *names, waits_s=(0.0, 0.0), **more):
    download(
        names or ("CPIAUCSL",), folder, more.pop("key", KEY), service.url, waits_s, say=lambda _: None, **more
    )


def test_vintages_by_hand(service, tmp_path):
    service.series["CPIAUCSL"] = CPI
    fetch(service, tmp_path)
    assert (service.asked[0]["realtime_start"], service.asked[0]["realtime_end"]) == (
        "1776-07-04",
        "9999-12-31",
    )
    series, dated, _ = read_fred_csv(tmp_path / "CPIAUCSL.csv", "CPIAUCSL")
    assert dated
    assert series.dates.astype(str).tolist() == ["2018-01-01", "2018-01-01", "2018-02-01"]
    assert series.releases.astype(str).tolist() == ["2018-02-14", "2019-02-11", "2018-03-14"]
    np.testing.assert_array_equal(series.values, [248.9, 248.7, 249.5])


def test_daily_series_come_as_they_stand(service, tmp_path):
    service.series["VIXCLS"] = [row("2018-01-02", "2018-01-03", "9.77"), row("2018-01-03", "2018-01-04", ".")]
    fetch(service, tmp_path, "VIXCLS")
    assert "realtime_start" not in service.asked[0]
    assert (tmp_path / "VIXCLS.csv").read_text() == "observation_date,VIXCLS\n2018-01-02,9.77\n2018-01-03,.\n"


def test_long_answers_come_in_pages(service, tmp_path, monkeypatch):
    monkeypatch.setattr(fred_api, "PAGE", 3)
    service.series["CPIAUCSL"] = CPI
    fetch(service, tmp_path)
    assert [query["offset"] for query in service.asked] == ["0", "3"]
    assert len((tmp_path / "CPIAUCSL.csv").read_text().splitlines()) == 5


def test_a_second_call_asks_nothing_and_keeps_the_files(service, tmp_path):
    service.series["CPIAUCSL"] = CPI
    (tmp_path / "SP500.csv").write_text("mine")
    fetch(service, tmp_path, "CPIAUCSL", "SP500")
    fetch(service, tmp_path, "CPIAUCSL", "SP500")
    assert [query["series_id"] for query in service.asked] == ["CPIAUCSL"]
    assert (tmp_path / "SP500.csv").read_text() == "mine"


@pytest.mark.parametrize("failure", [(429, {}), (500, b"oops"), (503, {"error_message": "x"}), (200, b"{")])
def test_failures_that_pass_are_tried_again(service, tmp_path, failure):
    service.series["CPIAUCSL"] = CPI
    service.failures = [failure, failure]
    fetch(service, tmp_path)
    assert len(service.asked) == 3
    assert (tmp_path / "CPIAUCSL.csv").exists()


def test_a_failure_that_stays_keeps_what_came_and_goes_on_later(service, tmp_path):
    service.series = {"CPIAUCSL": CPI, "UNRATE": CPI}
    fetch(service, tmp_path, "CPIAUCSL")
    service.failures = [(503, {"error_message": "busy"})] * 3
    with pytest.raises(UserError, match=r"UNRATE: no answer from the service after 3 tries \(503: busy\)"):
        fetch(service, tmp_path, "CPIAUCSL", "UNRATE")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CPIAUCSL.csv"]
    fetch(service, tmp_path, "CPIAUCSL", "UNRATE")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CPIAUCSL.csv", "UNRATE.csv"]


def test_a_slow_answer_is_given_up(service, tmp_path):
    service.series["CPIAUCSL"] = CPI
    service.delay_s = 0.6
    with pytest.raises(UserError, match=r"no answer from the service after 1 tries .*timed out"):
        fetch(service, tmp_path, waits_s=(), timeout_s=0.2)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_lost_within_an_answer(service, tmp_path):
    service.series["CPIAUCSL"] = CPI
    service.cut_off_bytes = 7
    with pytest.raises(UserError, match=r"no answer from the service after 3 tries \(IncompleteRead"):
        fetch(service, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["api.stlouisfed.org/fred", "http://local host/fred", "file:///tmp", ""])
def test_a_wrong_address_is_said_and_the_key_is_not(tmp_path, url):
    with pytest.raises(
        UserError, match=r"--base-url: found .*, expected an address such as https://"
    ) as caught:
        download(("CPIAUCSL",), tmp_path, KEY, url, (0.0,))
    assert KEY not in str(caught.value)


def test_a_bad_key_is_said_at_once_and_never_shown(service, tmp_path):
    with pytest.raises(UserError, match=r"400: .*api_key is not registered.*FRED_API_KEY") as caught:
        fetch(service, tmp_path, key="wrong-secret")
    assert len(service.asked) == 1
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "failure",
    [
        (400, {"error_message": "the key sec ret/1 and sec+ret%2F1 is wrong"}),
        (200, {"count": "sec ret/1", "observations": []}),
        (302, {"error_message": "go to ?api_key=sec+ret%2F1"}),
    ],
)
def test_the_key_is_in_no_message_whatever_the_service_says(service, tmp_path, failure):
    service.failures = [failure] * 9
    with pytest.raises(UserError, match="CPIAUCSL") as caught:
        fetch(service, tmp_path, key="sec ret/1")
    assert "sec" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_unknown_series_and_odd_answers(service, tmp_path):
    with pytest.raises(UserError, match=r"CPIAUCSL: the service refused .*does not exist"):
        fetch(service, tmp_path)
    service.failures = [(200, {"count": 1})]
    with pytest.raises(UserError, match="no readable observations"):
        fetch(service, tmp_path)
    service.failures = [(200, {"count": 0, "observations": []})]
    with pytest.raises(UserError, match="without any observation"):
        fetch(service, tmp_path)
    assert list(tmp_path.iterdir()) == []


def weekdays():
    days = np.arange(np.datetime64("2018-01-01"), np.datetime64("2018-03-31"))
    return [str(day) for day in days[np.is_busday(days)]]


def command(service, tmp_path, *more):
    arguments = ["build", "--source", "fred-api", "--feature-set", "market_only", "--base-url", service.url]
    return [*arguments, "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "panel"), *more]


def test_build_from_the_service(service, tmp_path, monkeypatch, capsys):
    for name in ("SP500", "VIXCLS"):
        service.series[name] = [row(day, day, f"{100 + i % 7}") for i, day in enumerate(weekdays())]
    arguments = command(service, tmp_path)
    monkeypatch.delenv("FRED_API_KEY", raising=False)
    assert main(arguments) == 2
    assert "FRED_API_KEY is not set" in capsys.readouterr().err
    monkeypatch.setenv("FRED_API_KEY", KEY)
    assert main(arguments) == 0
    asked = len(service.asked)
    assert main([*arguments, "--overwrite"]) == 0
    assert len(service.asked) == asked == 2
    about = json.loads((tmp_path / "panel" / "panel.json").read_text())["about"]
    assert about["source"] == "fred-api"
    assert KEY not in (tmp_path / "panel" / "panel.json").read_text()


def test_a_network_that_fails_halfway_through_a_build(service, tmp_path, monkeypatch, capsys):
    """What came stays, no panel is written, and the second call asks for the rest only."""
    monkeypatch.setenv("FRED_API_KEY", KEY)
    monkeypatch.setattr(fred_api.time, "sleep", lambda seconds: None)
    service.series["SP500"] = [row(day, day, f"{100 + i % 7}") for i, day in enumerate(weekdays())]
    answer = service.answer
    service.answer = lambda query: answer(query) if query["series_id"] == "SP500" else (503, b"")
    assert main(command(service, tmp_path)) == 2
    assert "VIXCLS: no answer from the service after 5 tries (503" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "SP500.csv"]
    service.answer, service.series["VIXCLS"] = answer, service.series["SP500"]
    service.asked.clear()
    assert main(command(service, tmp_path)) == 0
    assert [query["series_id"] for query in service.asked] == ["VIXCLS"]
    assert (tmp_path / "panel" / "panel.csv").exists()


def test_the_index_from_yahoo_is_not_asked_of_the_service(service, tmp_path, monkeypatch):
    closes = pd.DataFrame({"Close": 100.0}, index=pd.DatetimeIndex(weekdays(), tz="America/New_York"))
    ticker = types.SimpleNamespace(history=lambda **arguments: closes)
    monkeypatch.setitem(sys.modules, "yfinance", types.SimpleNamespace(Ticker=lambda name: ticker))
    monkeypatch.setenv("FRED_API_KEY", KEY)
    service.series["VIXCLS"] = [row(day, day, "20") for day in weekdays()]
    assert main(command(service, tmp_path, "--sp500", "yfinance")) == 0
    assert [query["series_id"] for query in service.asked] == ["VIXCLS"]
    assert json.loads((tmp_path / "panel" / "panel.json").read_text())["about"]["source"] == "fred-api"
