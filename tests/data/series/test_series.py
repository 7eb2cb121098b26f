"""Series of one's own: their reading, their join, their place in a panel, by hand."""

import json

import numpy as np
import pandas as pd
import pytest

from tftjax.api.arguments import frames_of
from tftjax.config.data import DataConfig
from tftjax.config.loading import from_dict
from tftjax.data.alignment import check_gaps
from tftjax.data.loading import load_panel
from tftjax.data.newest import load_like, newest_rows
from tftjax.data.panel import read_panel, write_panel
from tftjax.errors import UserError
from tftjax.predict.rows import vintage_frames

# January's value is revised in March, on the day before February's first release; then February's is too.
LINES = (
    "2018-01-01,2018-02-14,100",
    "2018-01-01,2018-03-12,125",
    "2018-02-01,2018-03-13,130",
    "2018-02-01,2018-04-11,140",
)
DAYS = pd.bdate_range("2018-02-12", "2018-04-13", name="date")
SHOWN = ["2018-02-14", "2018-03-12", "2018-03-13", "2018-04-10", "2018-04-11"]
FRAME = pd.DataFrame({"ret": np.where(np.arange(len(DAYS)) % 2, 0.01, -0.01)}, DAYS)


def write(tmp_path, *lines, header="observation_date,release_date,cpi", name="cpi.csv"):
    path = tmp_path / name
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def data(series, **settings):
    raw = {"columns": {"target": "ret"}, "dataset": "frame", "series": series, **settings}
    return from_dict({"data": raw}, "test").data


def section(file, **settings):
    return {"file": file, "release": "release_date", "frequency": "monthly", **settings}


@pytest.mark.parametrize(
    ("vintage", "values"), [("first", [100, 100, 130, 130, 130]), ("latest", [100, 125, 130, 130, 140])]
)
def test_a_file_with_release_dates_by_hand(tmp_path, vintage, values):
    config = data({"cpi": section(write(tmp_path, *LINES), unit="index")}, vintage=vintage)
    panel = load_panel(config, FRAME)
    assert panel.observed == ("ret", "cpi")
    assert panel.frame.index[0] == pd.Timestamp("2018-02-14")
    assert "leading rows dropped: 2, no value of cpi before 2018-02-14" in panel.messages
    assert "cpi: release dates of the source" in panel.messages
    assert panel.frame.loc[SHOWN, "cpi"].tolist() == values
    assert panel.staleness.loc[SHOWN, "cpi"].tolist() == [0, 26, 0, 28, 29]  # since the first release
    assert panel.about["units"]["cpi"] == "index"


def test_a_frame_of_vintages_makes_the_same_panel(tmp_path):
    file = pd.read_csv(write(tmp_path, *LINES), parse_dates=[0, 1])
    frame = file.set_axis(["observation", "release", "value"], axis=1)[::-1]  # in any order
    of_file = load_panel(data({"cpi": section(write(tmp_path, *LINES))}), FRAME)
    of_frame = load_panel(data({"cpi": {"frequency": "monthly"}}), FRAME, frames_of({"cpi": frame}))
    assert of_frame.fingerprint == of_file.fingerprint
    pd.testing.assert_frame_equal(of_frame.staleness, of_file.staleness)


def test_a_rule_of_days_and_a_transform_by_hand(tmp_path):
    months = [f"2018-{month:02}-01,{value}" for month, value in ((1, 100), (2, 120), (3, 90))]
    file = write(tmp_path, *months, header="month,price")
    own = {"file": file, "date": "month", "value": "price", "frequency": "monthly"}
    own |= {"release_rule": "days:14", "transform": ["momentum:1"]}
    panel = load_panel(data({"steel": own}), FRAME)
    # January has none before it; February's is seen from 2018-02-15 on, March's from 2018-03-15 on.
    assert panel.frame.index[0] == pd.Timestamp("2018-02-15")
    np.testing.assert_allclose(panel.frame.loc[["2018-03-14", "2018-03-15"], "steel"], [0.2, -0.25])
    assert panel.staleness.loc[["2018-03-14", "2018-03-15"], "steel"].tolist() == [27, 0]
    assert "steel: visible 14 days after its date" in panel.messages
    assert panel.about["units"]["steel"] == "return"


def test_steps_that_count_rows_do_so_in_each_series_of_a_panel(tmp_path):
    rows = pd.concat([FRAME.assign(id="a"), FRAME[10:].assign(id="b")])
    config = data({"cpi": section(write(tmp_path, *LINES), transform=["on_rows", "difference:1"])})
    config = config.model_copy(
        update={"columns": config.columns.model_copy(update={"id": "id"}), "missing": "mask"}
    )
    panel = load_panel(config, rows)
    for name, count in (("a", len(FRAME)), ("b", len(FRAME) - 10)):
        part = panel.frame[panel.frame["id"] == name]
        assert len(part) == count
        assert np.isnan(part["cpi"].iloc[0])
        assert part["cpi"].dropna().unique().tolist() == [0.0, 30.0]
        assert part.loc["2018-03-13", "cpi"] == 30.0


def test_a_series_of_a_panel_that_ended_before_the_first_release_is_left_out(tmp_path):
    config = data({"cpi": section(write(tmp_path, *LINES))})
    config = config.model_copy(update={"columns": config.columns.model_copy(update={"id": "id"})})
    old = FRAME.assign(id="old").shift(freq="-60D")  # to 2018-02-12; the first release is of 02-14
    panel = load_panel(config, pd.concat([FRAME.assign(id="new"), old]))
    assert panel.frame["id"].unique().tolist() == ["new"]
    assert "left out 1 series without a row to use: old" in panel.messages
    with pytest.raises(UserError, match=r"no series has a row .* first one released on 2018-02-14"):
        load_panel(config, old)


def test_a_spread_takes_off_a_series_that_is_no_column(tmp_path):
    lines = [f"2018-{month:02}-01,{value}" for month, value in ((1, 5), (2, 7), (3, 9))]
    baa = write(tmp_path, *lines, header="observation_date,BAA", name="BAA.csv")
    aaa = write(tmp_path, "2018-01-01,4", "2018-02-01,4.5", header="observation_date,BAA", name="AAA.csv")
    rule = {"value": "BAA", "release_rule": "days:1", "frequency": "monthly"}
    series = {
        "spread": {"file": baa, **rule, "unit": "percent", "transform": ["minus:AAA"]},
        "AAA": {"file": aaa, **rule, "column": False},
    }
    panel = load_panel(data(series), FRAME)
    assert panel.observed == ("ret", "spread")
    assert panel.frame["spread"].unique().tolist() == [2.5]  # February's; AAA has none of March
    assert panel.about["units"]["spread"] == "percentage points"
    with pytest.raises(UserError, match=r"found 'minus:A', expected another series of data.series after"):
        load_panel(data(series | {"spread": series["spread"] | {"transform": ["minus:A"]}}), FRAME)


def test_series_join_raw_series_too(tmp_path):
    days = pd.bdate_range("2018-02-12", "2018-04-13")
    for name, first in (("SP500", 2700.0), ("VIXCLS", 15.0)):
        values = pd.Series(first + np.arange(len(days)) % 7, days, name=name).rename_axis("observation_date")
        values.to_csv(tmp_path / f"{name}.csv")
    raw = {"dataset": str(tmp_path), "feature_set": "market_only"}
    own = {"cpi": section(write(tmp_path, *LINES))}
    panel = load_panel(from_dict({"data": raw | {"series": own}}, "test").data)
    assert panel.observed == ("SP500_Returns", "VIX", "cpi")
    assert panel.frame.loc[SHOWN, "cpi"].tolist() == [100, 100, 130, 130, 130]
    plain = load_panel(from_dict({"data": raw}, "test").data)
    both = panel.frame.index.intersection(plain.frame.index)
    pd.testing.assert_frame_equal(plain.frame.loc[both], panel.frame.loc[both].drop(columns="cpi"))


def test_newer_data_are_read_as_the_run_s_were(tmp_path):
    file, rows = write(tmp_path, *LINES[:3]), tmp_path / "rows.csv"
    FRAME[:-3].to_csv(rows)
    config = data({"cpi": section(file)}, dataset=str(rows))
    write_panel(tmp_path, load_panel(config))
    kept = read_panel(tmp_path)  # as a run keeps it
    FRAME.to_csv(rows)
    write(tmp_path, *LINES, "2018-03-01,2018-04-12,150")
    panel, words = newest_rows(kept, config)
    assert words == str(rows)
    assert panel.frame["cpi"].iloc[-3:].tolist() == [130, 150, 150]
    again = load_like(kept, DataConfig(dataset="x", columns=config.columns), FRAME)
    assert again.fingerprint == panel.fingerprint


def test_a_run_s_vintages_are_asked_for_again_by_name(tmp_path):
    vintages = frames_of({"cpi": pd.read_csv(write(tmp_path, *LINES, header="observation,release,value"))})
    config = data({"cpi": {"frequency": "monthly"}})
    kept = load_panel(config, FRAME[:-3], vintages)
    with pytest.raises(UserError, match=r'data.series.cpi: found neither .* give vintages=\{"cpi": frame\}'):
        load_like(kept, config, FRAME)
    panel = load_like(kept, config, FRAME, vintages)
    pd.testing.assert_frame_equal(panel.frame[:-3], kept.frame, check_freq=False)


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        (
            ["2018-01-01,2017-12-31,5"],
            {},
            r"cpi.csv, line 2, column 'release_date': found the release 2017-12-31 of the observation",
        ),
        (
            [LINES[0], "2018-02-01,2018-03-13,130", "2018-01-01,2018-02-14,101"],
            {},
            r"line 2 and line 4: found two values of 2018-01-01 released on 2018-02-14, expected one",
        ),
        (
            ["2018-01-01,2018-02-14,1", "2018-01-01,2018-03-14,2"],
            {"release": None, "release_rule": "days:3"},
            r"line 2 and line 3: found two values of 2018-01-01 without release dates.*name the column of",
        ),
        (
            LINES,
            {"value": "price"},
            r"line 1: found no column 'price' among .* or name yours in data.series.cpi",
        ),
        (LINES, {"release": "published"}, r"found no column 'published'"),
        (LINES, {"unit": "percents"}, r"data.series.cpi.unit: found 'percents', .* mean 'percent'"),
        (LINES, {"unit": "return"}, r"median size of 127.5, expected at most 0.5 of the unit 'return'"),
        (
            [*LINES, "2018-03-01,2018-04-12,-3"],
            {"unit": "index"},
            r"line 6, .*found -3, expected a value above 0",
        ),
        (
            [*LINES, "2018-03-01,2018-04-12,0"],
            {"transform": ["log_change:1"]},
            "'log_change:1' divides by it",
        ),
        (LINES, {"transform": ["logchange:1"]}, r"data.series.cpi.transform\[0\]: found 'logchange:1'"),
        (
            LINES,
            {"release": None, "release_rule": "next_day"},
            r"data.series.cpi.release_rule: found 'next_day', expected one of same_day.*days:N",
        ),
        (
            ["2018-03-01,2018-04-20,5"],
            {},
            r"no value of the column 'cpi' that was known on 2018-04-13, the last",
        ),
        (
            LINES[:2],
            {"max_gap": 0},
            r"no value between 2018-01-01 and .* 0 missing months.*raise data.series.cpi",
        ),
        (LINES, {"frequency": None}, r"whose frequency cannot be told.*Set data.series.cpi.frequency"),
        (["2018-01-01,2018-02-14,"], {}, "found no value in any row"),
        (["2018-01-01,2018-02-14,1", "2200-01-01,2200-02-01,2"], {}, "expected a date up to today"),
        (
            [LINES[0], "2018-02-01,2018-05-01,5", "2018-03-01,2018-04-12,6"],
            {},
            r"line 3, .*found 2018-02-01 first released on 2018-05-01, .* by 2018-04-12",
        ),
    ],
)
def test_what_is_refused(tmp_path, lines, settings, message):
    config = data({"cpi": section(write(tmp_path, *lines), **settings)})
    with pytest.raises(UserError, match=message):
        load_panel(config, FRAME)


def test_a_scheduled_release_without_a_value_may_lie_ahead(tmp_path):
    config = data({"cpi": section(write(tmp_path, *LINES, "2200-12-01,2201-01-14,"))})
    assert load_panel(config, FRAME).frame["cpi"].iloc[-1] == 130


def test_sources_that_do_not_fit_the_config(tmp_path):
    frame = pd.read_csv(write(tmp_path, *LINES, header="observation,release,value"))
    of_file = {"cpi": section(write(tmp_path, *LINES))}
    for series, vintages, message in (
        (of_file, {"cpi": frame}, "vintages: found a frame for 'cpi', whose data.series.cpi.file is"),
        (of_file, {"ppi": frame}, r"vintages: found ppi, which data.series does not have \(cpi\)"),
        ({"cpi": section("none.csv")}, {}, "data.series.cpi.file: there is no file none.csv"),
        (
            {"ret": section(of_file["cpi"]["file"], value="cpi")},
            {},
            "data.series: found ret, a column that the",
        ),
        ({"cpi": {"frequency": "monthly"}}, {"cpi": frame[["value"]]}, r"vintages\['cpi'\].* 'observation'"),
    ):
        with pytest.raises(UserError, match=message):
            load_panel(data(series), FRAME, vintages)
    with pytest.raises(UserError, match="vintages: found int, expected a dict of frames"):
        frames_of(3)
    with pytest.raises(UserError, match=r"vintages\['cpi'\]: found int, expected a table"):
        frames_of({"cpi": 3})


def test_vintages_of_a_command_are_files(tmp_path):
    file = write(tmp_path, *LINES, header="observation,release,value")
    config = data({"cpi": {"frequency": "monthly"}})
    panel = load_panel(config, FRAME, vintage_frames([f"cpi={file}"]))
    assert panel.frame.loc[SHOWN, "cpi"].tolist() == [100, 100, 130, 130, 130]
    for text in ("cpi", f"={file}", "cpi=none.csv"):
        with pytest.raises(UserError, match=f"--vintages '{text}': expected NAME=FILE"):
            vintage_frames([text])


def test_sections_that_say_too_little_or_too_much():
    for settings, message in (
        ({"file": "a.csv"}, "data.series.cpi.release_rule: found null, expected a rule such as"),
        ({"file": "a.csv", "release": "r", "release_rule": "same_day"}, "both say when a value was known"),
        ({"release_rule": "same_day"}, "a frame in vintages has release dates"),
        ({"relese": "r"}, "data.series.cpi.relese: unknown key .*'data.series.NAME.release'"),
        ({"frequency": "yearly"}, 'data.series.cpi.frequency: found "yearly", expected one of'),
    ):
        with pytest.raises(UserError, match=message):
            data({"cpi": settings})


def test_fixed_lags_of_series(tmp_path):
    own = {"cpi": section(write(tmp_path, *LINES))}
    with pytest.raises(UserError, match=r"data.lags: found none of 'cpi' with data\.alignment 'fixed'"):
        load_panel(data(own, alignment="fixed"), FRAME)
    panel = load_panel(data(own, alignment="fixed", lags={"cpi": 45}), FRAME)
    # 45 days after 2018-01-01 is 2018-02-15, after 2018-02-01 2018-03-18, a Sunday.
    shown = ["2018-02-15", "2018-03-16", "2018-03-19"]
    assert panel.frame.loc[shown, "cpi"].tolist() == [100, 100, 130]


def test_gaps_of_weeks_and_quarters_by_hand():
    def check(frequency, dates, last, most):
        dates = np.array(dates, "datetime64[D]")
        rule = lambda of: of + np.timedelta64(5, "D")  # noqa: E731
        check_gaps(dates, frequency, rule, dates[0], np.datetime64(last), "x", 30, most)

    check("weekly", ["2018-01-05", "2018-01-19"], "2018-01-25", 1)  # one week is missing
    with pytest.raises(UserError, match="2018-01-05 and 2018-01-19, expected at most 0 missing weeks"):
        check("weekly", ["2018-01-05", "2018-01-19"], "2018-01-25", 0)
    check("quarterly", ["2018-01-01"], "2018-07-05", 1)  # July's is due on 2018-07-06
    with pytest.raises(UserError, match="2018-01-01 and 2018-07-06, expected at most 1 missing quarters"):
        check("quarterly", ["2018-01-01"], "2018-07-06", 1)


def test_a_config_with_series_is_json_again(tmp_path):
    config = data({"cpi": section("cpi.csv", transform=["lag:1"])})
    assert DataConfig.model_validate_json(config.model_dump_json()) == config
    assert hash(config) == hash(data(json.loads(config.model_dump_json())["series"]))
