"""The report: what it says, what it refuses, and that a real browser shows it on a phone and in the dark."""

import base64
import dataclasses
import datetime
import hashlib
import html
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import browser
import numpy as np
import pandas as pd
import pytest
from fuzz import check
from pages import Reader, assert_shown, assert_works
from tiny import contents, no_picture

from tftjax.evaluate import evaluation, tables
from tftjax.evaluate.baselines import BASELINES, POOLED
from tftjax.evaluate.files import read_predictions
from tftjax.evaluate.formatting import Unit, p_text
from tftjax.evaluate.verdict import (
    Verdict,
    among_the_best,
    combination_line,
    headline,
    in_words,
    intervals_in_words,
    tails_in_words,
    verdict,
)
from tftjax.plots import theme
from tftjax.plots.chart import Band, Chart, Line, packed
from tftjax.plots.forecasts import fan_data, fan_picture
from tftjax.plots.theme import Key, themed
from tftjax.predict import forecast_next
from tftjax.report import upcoming
from tftjax.report.__main__ import main as report_main
from tftjax.report.kinds import report
from tftjax.report.page import Chapter, Code, Details, Facts, Items, Page, Text, render
from tftjax.storage import checkpoint, runs
from tftjax.storage.directories import RunDirectory
from tftjax.storage.runs import Ended
from tftjax.sweep.plan import Member
from tftjax.sweep.results import write_results

LEVEL = Unit(1.0, "level", ".6g")
pytestmark = pytest.mark.slow  # but for a few that are done in no time


def copy_of(trained, folder, name="tiny"):
    return Path(shutil.copytree(trained.directory, folder / name))


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def undrawn(monkeypatch):
    """Pages with empty figures, for tests of their words: drawing is nine tenths of the time."""
    monkeypatch.setattr(theme, "drawn", lambda *_: '<svg xmlns="http://www.w3.org/2000/svg" />')


@pytest.fixture(scope="module")
def judged(trained, tmp_path_factory):
    """The shared run with quality windows that its 48 test days can fill, and made-up interpretation."""
    run = copy_of(trained, tmp_path_factory.mktemp("judged"))
    change(run / "config.json", lambda config: config.update(evaluation={"quality_window": 20}))
    forecasts = {split: read_predictions(run, split).forecast for split in ("val", "test")}  # no compilation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theme, "save", no_picture)  # a page has figures of its own
        evaluation.evaluate_forecasts(runs.open_run(run), forecasts)
    (run / "interpretation").mkdir()
    importance = [
        (split, kind, name, mean, mean - 0.1, mean + 0.1)
        for split, factor in (("val", 0.5), ("test", 1.0))
        for kind, name, mean in (
            ("encoder", "AAA_Yield", 0.62 * factor),
            ("encoder", "<VIX>", 0.38 * factor),
            ("decoder", "month", factor),
        )
    ]
    columns = ["split", "kind", "variable", "mean", "p10", "p90"]
    pd.DataFrame(importance, columns=columns).to_csv(run / "interpretation" / "importance.csv", index=False)
    attention = pd.DataFrame({"split": "test", "horizon": 1, "step": range(-4, 2), "lag": range(5, -1, -1)})
    attention = attention.assign(mean=[0.1, 0.1, 0.1, 0.1, 0.4, 0.2], p10=0.05, p90=0.5)
    attention.to_csv(run / "interpretation" / "attention_by_lag.csv", index=False)
    return run


@pytest.fixture(scope="module")
def page(judged):
    assert report_main([str(judged)]) == 0
    return Reader((judged / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def swept(trained, tmp_path_factory):
    """A sweep of copies of the shared run whose pinball losses are set: weak is the better on test only."""
    folder = tmp_path_factory.mktemp("swept") / "weights"
    losses = {
        ("control", 42): (1.9, 2.5),
        ("control", 43): (2.1, 2.7),
        ("weak", 42): (2.2, 1.5),
        ("weak", 43): (2.4, 1.7),
        ("weak", 44): None,
    }
    members, ended = [], {}
    base = runs.read_config(trained.directory)
    for (group, seed), pinballs in losses.items():
        name = f"{group}-s{seed}"
        loss = base.loss.model_copy(update={"std_weight": 0.0 if group == "control" else 0.1})
        config = base.model_copy(
            update={"name": name, "loss": loss, "train": base.train.model_copy(update={"seed": seed})}
        )
        members.append(Member(name, group, config))
        ended[name] = Ended("finished" if pinballs else "diverged", 8, 5)
        if pinballs:
            run = copy_of(trained, folder / "members", name)

            def set_losses(metrics, pinballs=pinballs):
                for split, value in zip(("val", "test"), pinballs, strict=True):
                    metrics[split]["pinball"] = value * 1e-3

            change(run / "evaluation" / "metrics.json", set_losses)
    plan = [{"name": member.name, "fold": member.fold} for member in members]
    (folder / "sweep.json").write_text(json.dumps({"members": plan}))
    write_results(folder, members, ended, {})
    shutil.copytree(trained.directory / "evaluation", folder / "ensembles" / "control" / "evaluation")
    return folder


def test_the_verdict_comes_first_and_is_that_of_the_tests(judged, page):
    test = json.loads((judged / "evaluation" / "metrics.json").read_text())["test"]
    found = test["tests"]["diebold_mariano"]
    beaten = sum(t["p"] is not None and t["p"] < 0.05 and t["difference"] < 0 for t in found.values())
    assert f"Has not earned its keep: beats {beaten} of {len(BASELINES)} baselines" in page.text
    assert verdict(test) in page.text
    assert among_the_best(test) in page.text
    assert combination_line(test) in page.text
    combined = test["combination"]
    assert page.row("combination")[1] == f"{1e3 * combined['metrics']['pinball']:.4f}"
    best = min(test["baselines"], key=lambda name: test["baselines"][name]["pinball"])
    assert f"The best baseline, {best}, has a pinball loss of" in page.text
    # Nothing but the name and the days stands before it.
    headings = [values.get("id") for tag, values in page.tags if tag in ("h1", "h2", "h3")]
    assert headings[:4] == [None, "verdict", "worth", "next"]


def test_the_table_has_every_forecast_and_marks_the_best(judged, page):
    test = json.loads((judged / "evaluation" / "metrics.json").read_text())["test"]
    everyone = {"model": test, **test["baselines"]}
    for name, values in everyone.items():
        row = page.row(name)
        assert row[1] == f"{1e3 * values['pinball']:.4f}"
        if name != "model":
            dm = test["tests"]["diebold_mariano"][name]
            low, high = (f"{1e3 * dm[bound]:+.4f}" for bound in ("low", "high"))
            assert row[2] == f"{1e3 * dm['difference']:+.4f} [{low}, {high}]"
            assert row[3].endswith(p_text(dm["p"]))
    table = tables.against_baselines(test, "")
    losses = [values["pinball"] for values in everyone.values()]
    marked = [row[0].text for row in table.rows if row[1].mark == "best"]
    assert marked == [name for name, values in everyone.items() if values["pinball"] == min(losses)]
    assert [float(row[1].text) for row in table.rows] == sorted(round(1e3 * loss, 4) for loss in losses)
    text = (judged / "report.html").read_text()
    assert f'<td class="best"><strong>{1e3 * min(losses):.4f}</strong></td>' in text


def test_modes_stand_beside_what_chance_gives(judged, page):
    test = json.loads((judged / "evaluation" / "metrics.json").read_text())["test"]
    for mode, share in test["quality"].items():
        chance = test["quality_random"][mode]
        name = mode.replace("_", " ").lower()
        assert page.row(name) == [name, f"{100 * share:.0f} %", f"{100 * chance:.0f} %"]


def test_regimes_stand_beside_each_other(judged, page):
    regimes = json.loads((judged / "evaluation" / "metrics.json").read_text())["test"]["regimes"][
        "volatility"
    ]
    assert sum(values["windows"] for values in regimes.values()) == 48
    assert page.rows[page.rows.index(page.row("windows")) - 1] == ["", *regimes]
    for place, values in enumerate(regimes.values(), start=1):
        assert page.row("windows")[place] == str(values["windows"])
        if values["windows"]:
            assert page.row("pinball, 1e-3")[place] == f"{1e3 * values['pinball']:.4f}"
            theirs = values["baselines"]["vix_scaled"]["pinball"]
            difference = f"{100 * (values['pinball'] / theirs - 1):+.2f}"
            assert page.row("minus vix_scaled, %")[place] == difference


def test_regimes_by_the_run_s_own_thresholds():
    ours, theirs = {"windows": 3, "pinball": 0.003}, {"flat": {"pinball": 0.002}, "right": {"pinball": 0.0}}
    table = tables.by_regime("VIX", {"up to 20": ours | {"baselines": theirs}, "above 20": {"windows": 0}})
    assert table.title == "By VIX"
    assert table.head == ("", "up to 20", "above 20")
    rows = [[cell.text for cell in row] for row in table.rows]
    assert rows == [
        ["windows", "3", "0"],
        ["pinball, 1e-3", "3.0000", "-"],
        ["minus flat, %", "+50.00", "-"],
        ["minus right, %", "-", "-"],
    ]


def test_every_part_is_there(judged, page):
    titles = [
        "Against the baselines",
        "Calibration",
        "Skill over time",
        "Calm and stormy",
        "Quality modes",
        "Trading",
    ]
    titles += ["Training", "Variables", "Provenance"]
    sections = [values["id"] for tag, values in page.tags if tag == "h2"][3:]
    assert [f"#{anchor}" for anchor in sections] == [link for link in page.links if link[1:] in sections]
    for title in titles:
        assert title in page.text
    figures = {v["aria-label"].split(":")[0] for tag, v in page.tags if tag == "svg"}
    alts = " ".join(v["aria-label"] for tag, v in page.tags if tag == "svg")
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 16  # nine figures, two of them in one width
    assert "encoder: AAA_Yield 62 %, <VIX> 38 %" in alts  # the test rows' weights
    assert "Most attention, 40.0 % on average, goes to step 0." in alts
    assert len(figures) > 5
    config = json.loads((judged / "config.json").read_text())
    panel = json.loads((judged / "panel.json").read_text())
    assert panel["fingerprint"] in page.text
    assert f'"seed": {config["train"]["seed"]}' in page.text
    assert page.row("evaluation.quality_window")[1:] == ["20", "60"]
    assert "48, 2002-01-16 to 2002-03-22" in page.text  # the test rows


def test_the_page_stands_alone(judged, page):
    text = (judged / "report.html").read_text()
    assert len(text) < 600_000
    assert "http://" not in text
    assert "https://" not in text
    assert all(link.startswith("#") for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    targets = {link[1:] for link in page.links if link.startswith("#")}
    assert targets <= set(page.ids)
    assert ("html", {"lang": "en"}) in page.tags


def test_nothing_runs_but_what_the_policy_names(judged):
    """Its hashes are those of the one style and the one script; no element has a style of its own."""
    text = (judged / "report.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1].replace(
        "&#39;", "'"
    )
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not re.search(r"<[^<>]* (style|on\w+)=", text)


def test_headings_descend_by_one_and_every_figure_has_a_text(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(values["aria-label"] for tag, values in page.tags if tag == "svg")
    assert all(values["aria-label"] for _, values in page.tags if values.get("role") == "region")


def test_the_first_screen_is_in_words(judged, page):
    test = json.loads((judged / "evaluation" / "metrics.json").read_text())["test"]
    assert in_words(test) in page.text
    assert f"The 80 % band held {100 * test['coverage']['80']:.0f} % of 48 days" in page.text
    run = runs.open_run(judged)
    table = forecast_next(run, run.data.whole)
    low, middle, high = np.sort(100 * table.iloc[0].to_numpy(float))[[1, 3, 5]]
    day = table.index[0]
    assert f"The forecast for {day:%A}, {day.date()}" in page.text
    bounds = f"{low:+.2f} % and {high:+.2f} %"
    assert f"With a probability of 80 %, the return lies between {bounds}." in page.text
    assert f"Its middle is {middle:+.2f} %" in page.text
    trained = checkpoint.written_on(judged / "checkpoints")
    older = (trained - datetime.date(2002, 3, 22)).days
    assert f"The data end on 2002-03-22, {older:,} days before the training." in page.text
    assert f"The model (trained on {trained}) learned from days up to" in page.text
    assert "Forecasts of SP500_Returns, judged on" in page.text


def test_rows_of_a_month_are_spoken_of_as_months(judged, monkeypatch):
    run = runs.open_run(judged)
    panel = run.data.panel
    panel = dataclasses.replace(panel, about=panel.about | {"frequency": "monthly"})
    monthly = dataclasses.replace(run, data=dataclasses.replace(run.data, panel=panel))
    last = datetime.date(2002, 3, 22)  # of the data
    table = forecast_next(run, run.data.whole)
    monkeypatch.setattr(upcoming, "_table", lambda _: table)  # no second compilation
    for days, late in ((34, False), (72, False), (73, True)):
        monkeypatch.setattr(checkpoint, "written_on", lambda _, days=days: last + datetime.timedelta(days))
        chapter = upcoming.next_forecast(lambda: [monthly])
        said = " ".join(part.text for part in chapter.parts if isinstance(part, Text))
        assert chapter.title == "The forecast for the month of 2002-03-25"
        assert "learned from months up to 2" in said
        assert (f", {days} days before the training" in said) == late
    monkeypatch.setattr(checkpoint, "written_on", lambda _: last + datetime.timedelta(11))
    assert ", 11 days before the training" in str(upcoming.next_forecast(lambda: [run]))


def test_names_of_the_data_are_no_code():
    """In text, in attributes, and in the script's JSON."""
    name = '</script><b title="\' style="x\u2028'
    chart = Chart(pd.bdate_range("2020-01-01", periods=3), name, [Line(Key(name, "blue"), np.zeros(3))])
    svg = themed(f'<svg xmlns="http://www.w3.org/2000/svg"><text>{html.escape(name)}</text></svg>', "a", name)
    drawn = theme.Picture(name, name, svg, svg, (Key(name, "blue"),), name, {name: chart, f"{name}2": chart})
    table = tables.Table(name, (name, "a_b"), [[tables.Cell(name), tables.Cell(name, "best")]], name)
    verdict = Verdict("good", name, name, [name], name)
    parts = [
        drawn,
        table,
        Text(name),
        Details(name, [Code(name), Facts(name, [(name, name)]), Items([name])]),
    ]
    text = render(Page(name, name, verdict, [Chapter("a", name, parts)], None, [Chapter("b", name, [])]))
    found = Reader(text)
    assert [tag for tag, _ in found.tags].count("b") == 0
    assert [tag for tag, _ in found.tags].count("script") == 2
    assert "\u2028" not in re.search(r'<script type="application/json">(.*?)</script>', text)[1]
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert [key for key, _ in json.loads(data)] == [name, f"{name}2"]


def test_numbers_for_the_script_are_those_of_the_figure():
    values = np.array([0.5, np.nan, -2.0, 1e-4])
    band = Band(Key("80 %", "blue", "band", 0.5), values - 1, values + 1)
    days = pd.to_datetime(["1960-01-01", "2018-12-31", "2019-01-02", "2059-01-01"])
    data = packed(Chart(days, "return, %", [Line(Key("median", "ink"), values)], [band]))

    def unpacked(unit, text, middle=0):
        steps = np.frombuffer(base64.b64decode(text), "<i2")
        return np.where(steps == -32768, np.nan, middle + unit * steps)

    np.testing.assert_allclose(unpacked(*data["lines"][0]["values"]), values, atol=2.0 / 65_000)
    np.testing.assert_allclose(unpacked(*data["bands"][0]["low"]), values - 1, atol=3.0 / 65_000)
    epoch = pd.Timestamp("1970-01-01")
    assert unpacked(1, data["x"]).tolist() == [(day - epoch).days for day in days]


def test_words_for_who_knows_no_statistics():
    def metrics(days=100, **tests):
        found = {name: {"difference": d, "p": p} for name, (d, p) in tests.items()}
        baselines = {name: {"pinball": place} for place, name in enumerate(tests, start=1)}
        return {"baselines": baselines, "tests": {"days": days, "diebold_mariano": found}}

    better, level = (-1.0, 0.01), (-1.0, 0.3)
    unseen = "On 100 days that it had not seen, this forecast's error (pinball loss) was"
    assert in_words(metrics(a=better, b=better)) == (
        f"{unseen} smaller than that of every simpler method beside it, by more than chance explains."
    )
    assert in_words(metrics(a=(0.25, 0.01), b=better, c=level)) == (
        f"{unseen} 25.0 % larger than that of the simpler method a, by more than chance explains. Prefer that"
        " one. Of 3 simpler methods it is better than 1, worse than 1, and cannot be told from 1."
    )
    assert in_words(metrics(a=(-0.1, 0.3), b=better)) == (
        f"{unseen} 10.0 % smaller than that of the simpler method a, which may be chance. Of 2"
        " simpler methods it is better than 1, worse than 0, and cannot be told from 1."
    )
    assert in_words(metrics(a=better, b=level)) == (
        f"{unseen} 100.0 % smaller than that of the best simpler method, a, by more than chance explains."
        " Of 2 simpler methods it is better than 1, worse than 0, and cannot be told from 1. Wait for more"
        " days before you rely on it."
    )
    months = in_words(metrics(a=better, b=level), "month")
    assert months.startswith("On 100 months that it had not seen,")
    assert "Wait for more months before" in months
    assert "nobody can say yet" in in_words(metrics(29, a=better))
    assert "nobody can say yet" in in_words(metrics())


def test_the_worth_of_intervals_in_words():
    def metrics(held, low, high):
        bounds = {} if low is None else {"coverage_low": {"80": low}, "coverage_high": {"80": high}}
        return {"coverage": {"50": 0.1, "80": held, "96": 0.9}, "tests": {"days": 200}} | bounds

    assert intervals_in_words(metrics(0.82, 0.78, 0.85), 200) == (
        "The 80 % band held 82 % of 200 days: the difference to 80 % is within chance."
    )
    assert "it is too narrow" in intervals_in_words(metrics(0.7, 0.65, 0.75), 200)
    assert "it is too wide" in intervals_in_words(metrics(0.9, 0.85, 0.95), 200)
    text = intervals_in_words(metrics(0.7, None, None), 600)
    assert text == "The 80 % band held 70 % of 600 forecasts on 200 days; 80 % would be right."
    assert "82 % of 200 months:" in intervals_in_words(metrics(0.82, 0.78, 0.85), 200, "month")
    assert "more weeks than it says" in intervals_in_words(metrics(0.7, 0.65, 0.75), 200, "week")


def test_wrong_tails_in_words():
    def tail(violations, kupiec_p, independence_p):
        numbers = {"violations": violations, "expected": 20.0, "kupiec_p": kupiec_p}
        return numbers | {"independence_p": independence_p, "coverage_p": 0.01}

    tests = {"0.02": tail(31, 0.02, None), "0.05": tail(24, 0.3, 0.001), "0.9": tail(19, 0.5, 0.2)}
    assert tails_in_words({"tests": {"value_at_risk": tests | {"0.98": tail(9, 0.01, 0.4)}}}) == (
        "31 days lay below the 2 % quantile, and 20 were expected: too many for chance. The 24 days"
        " below the 5 % quantile (20 expected) came in clusters. 9 days lay above the 98 % quantile, and"
        " 20 were expected: too few for chance."
    )
    assert tails_in_words({"tests": {}}) == ""
    quarters = tails_in_words({"tests": {"value_at_risk": tests}}, "quarter")
    assert quarters.startswith("31 quarters lay below")
    assert "The 24 quarters below" in quarters


@pytest.mark.usefixtures("page")
def test_an_index_of_a_folder(judged, swept, tmp_path, capsys):
    folder = tmp_path / "runs"
    shutil.copytree(judged, folder / "judged")
    shutil.copytree(swept, folder / "swept")
    broken = Path(shutil.copytree(judged, folder / "broken"))
    (broken / "evaluation" / "metrics.json").write_text("{")
    (broken / "report.html").unlink()
    (folder / "notes").mkdir()
    assert report_main([str(folder)]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "report.html")]
    found = Reader((folder / "report.html").read_text())
    test = json.loads((judged / "evaluation" / "metrics.json").read_text())["test"]
    assert [row[0] for row in found.rows[1:]] == ["judged", "swept", "broken"]
    tests = test["tests"]["diebold_mariano"].values()
    beaten = sum(t["p"] is not None and t["p"] < 0.05 and t["difference"] < 0 for t in tests)
    assert found.row("judged")[1:4] == ["run", f"{beaten} of {len(tests)}", "no"]
    assert found.row("swept")[1] == "sweep"
    assert "metrics.json: cannot be read" in found.row("broken")[-1]
    assert "judged/report.html" in found.links
    assert f"tftjax report {folder / 'swept'} " in found.text
    assert f"tftjax report {broken}" not in found.text  # no page could be made of it
    assert "The test rows chose nothing" not in found.text  # they sort
    assert {path.name for path in folder.iterdir()} == {"judged", "swept", "broken", "notes", "report.html"}


def test_an_index_names_only_what_can_have_a_page_and_takes_any_name(judged, tmp_path):
    folder = tmp_path / "my runs"
    for name in ("open", "a:b #1%", "it's"):
        shutil.copytree(judged, folder / name, ignore=shutil.ignore_patterns("report.html"))
    (folder / "a:b #1%" / "report.html").write_text("")
    change(folder / "open" / "evaluation" / "metrics.json", lambda it: it["test"]["tests"].update(days=5))
    for name in ("unfinished", "final"):
        (folder / name).mkdir()
        shutil.copy(judged / "config.json", folder / name)
    final = runs.Final("../open", 3, 3, "2002-03-22", "2002-01-14", "beats 0", "x")
    (folder / "final" / "final.json").write_text(json.dumps(final._asdict()))
    (folder / "damaged").mkdir()
    (folder / "damaged" / "sweep.json").write_text('{"members": [')
    assert report([folder]) == [folder / "report.html"]
    text = (folder / "report.html").read_text()
    found, row = Reader(text), Reader(text).row("damaged")
    assert row[1:6] == ["-"] * 5
    assert row[6].startswith("Not to be judged: ")
    assert "sweep.json: cannot be read" in row[6]
    assert found.row("final")[6].startswith("Final fit to 2002-03-22.")
    assert found.row("unfinished")[6].startswith("Not to be judged: ")
    assert "a%3Ab%20%231%25/report.html" in found.links
    code = re.search(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)[1]
    lines = [shlex.split(line) for line in html.unescape(code).splitlines()]
    assert lines == [["tftjax", "report", str(path)] for path in (folder / "it's", folder / "open", folder)]
    (order,) = re.findall(r'<th scope="row">open</th>.*?data-order="([^"]*)"', text)
    assert float(order) == -1.0
    assert report([folder]) == [folder / "report.html"]  # over its own


def test_a_page_of_someone_else_s_is_not_replaced(judged, tmp_path, capsys):
    shutil.copytree(judged, tmp_path / "run")
    (tmp_path / "report.html").write_text("<p>My thesis</p>")
    assert report_main([str(tmp_path)]) == 2
    assert "has not written" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "<p>My thesis</p>"


def test_the_same_run_gives_the_same_bytes_and_nothing_else_changes(judged, page):
    before = contents(judged)
    (judged / "report.html").write_text("what lies there is replaced")
    assert report_main([str(judged)]) == 0
    assert contents(judged) == before
    assert not RunDirectory(judged).foreign()


@pytest.mark.usefixtures("undrawn")
def test_runs_of_one_call_are_tested_against_each_other(trained, tmp_path):
    a, b = copy_of(trained, tmp_path, "a"), copy_of(trained, tmp_path, "b")
    table = pd.read_csv(b / "evaluation" / "predictions.csv")
    table["0.5"] += np.where(table["split"] == "test", 0.01, 0.0)  # worse
    table.to_csv(b / "evaluation" / "predictions.csv", index=False)
    assert report_main([str(a), str(b), str(a)]) == 0
    rows = [Reader((run / "report.html").read_text()).row(other.name) for run, other in ((a, b), (b, a))]
    assert rows[0][2].startswith("-")
    assert rows[1][2].startswith("+")
    assert rows[0][3].startswith("better, p")
    assert rows[1][3].startswith("worse, p")


def spoil_target(run):
    table = pd.read_csv(run / "evaluation" / "predictions.csv")
    table.assign(actual=table["actual"] * 100).to_csv(run / "evaluation" / "predictions.csv", index=False)


def shorten(run):
    for name in ("predictions", "baselines"):
        table = pd.read_csv(run / "evaluation" / f"{name}.csv")
        table.iloc[:-1].to_csv(run / "evaluation" / f"{name}.csv", index=False)


def test_what_does_not_compare_is_refused_with_the_difference(trained, tmp_path, capsys):
    a = copy_of(trained, tmp_path, "a")
    for spoil, message in ((spoil_target, "the actual returns differ"), (shorten, "such as 2002-03-22")):
        b = copy_of(trained, tmp_path, spoil.__name__)
        spoil(b)
        assert report_main([str(a), str(b)]) == 2
        assert message in capsys.readouterr().err
        assert not (a / "report.html").exists()


def test_bad_input(trained, tmp_path, capsys):
    run = copy_of(trained, tmp_path)
    (tmp_path / "empty").mkdir()
    assert report_main([str(tmp_path / "empty")]) == 2
    assert "neither a run (it has no config.json) nor a sweep" in capsys.readouterr().err
    for name in ("notes.json", "metrics.json", "quality.csv", "baselines.csv", "predictions.csv"):
        kept = (run / "evaluation" / name).read_bytes()
        (run / "evaluation" / name).write_text("{")
        assert report_main([str(run)]) == 2
        error = capsys.readouterr().err
        assert f"{name}: cannot be read" in error
        assert f"tftjax evaluate {run}" in error
        (run / "evaluation" / name).unlink()
        assert report_main([str(run)]) == 2
        assert f"tftjax evaluate {run}" in capsys.readouterr().err
        (run / "evaluation" / name).write_bytes(kept)
    change(run / "evaluation" / "metrics.json", lambda metrics: metrics["val"].pop("trading"))
    assert report_main([str(run)]) == 2
    assert "metrics.json, val: damaged, key trading: missing. Make it anew" in capsys.readouterr().err
    assert not (run / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
def test_few_days_get_no_p_value(trained, tmp_path):
    """As an evaluation of 20 test days leaves it."""
    run = copy_of(trained, tmp_path)
    for name in ("predictions", "baselines"):
        table = pd.read_csv(run / "evaluation" / f"{name}.csv")
        test = table[table["split"] == "test"].iloc[:20]
        pd.concat([table[table["split"] == "val"], test]).to_csv(
            run / "evaluation" / f"{name}.csv", index=False
        )

    def few(metrics):
        tests = metrics["test"]["tests"]
        tests["days"] = 20
        for found in (*tests["diebold_mariano"].values(), tests["pit"], tests["pesaran_timmermann"]):
            found |= {name: None for name in ("low", "high", "t", "p", "chi2", "statistic") if name in found}
        combined = metrics["test"]["combination"]["tests"]
        combined["days"] = 20
        combinations = (combined["model"], *combined["diebold_mariano"].values())
        for found in (*combinations, *metrics["test"]["encompassing"].values()):
            found |= dict.fromkeys(("low", "high", "t", "p"))
        for found in tests["value_at_risk"].values():
            found |= dict.fromkeys(("kupiec_p", "independence_p", "coverage_p"))

    change(run / "evaluation" / "metrics.json", few)
    assert report_main([str(run)]) == 0
    found = Reader((run / "report.html").read_text())
    assert "No verdict: too few dates" in found.text
    assert "20 dates are too few for a test, which takes 30" in found.text
    assert found.row("garch")[3] == "no test"
    assert "): too few dates for a test; its pinball loss minus the model's: " in found.text
    head, _, _ = found.text.partition("The same for validation")
    assert "p =" not in head
    assert "p <" not in head


def test_constant_forecasts(trained, tmp_path):
    """The median always the same, and the intervals too: nothing is divided by their spread."""
    run = runs.open_run(copy_of(trained, tmp_path))
    counts = {split: len(run.data.starts[split]) for split in ("val", "test")}
    levels = np.linspace(-0.02, 0.02, 7)
    forecasts = {split: np.tile(levels, (count, 1, 1)) for split, count in counts.items()}
    evaluation.evaluate_forecasts(run, forecasts)
    assert report_main([str(run.directory)]) == 0
    found = Reader((run.directory / "report.html").read_text())
    assert "correlation with the actual returns undefined, as one of them is constant" in found.text
    assert found.row("model")[-1] == "-"
    assert not re.search(r"\bnan\b", found.text)


@pytest.mark.usefixtures("undrawn")
def test_a_baseline_without_any_loss(trained, tmp_path):
    """It knew what came: nothing is a percentage of its loss."""
    run = copy_of(trained, tmp_path)
    table = pd.read_csv(run / "evaluation" / "baselines.csv")
    actual = pd.read_csv(run / "evaluation" / "predictions.csv")["actual"]
    perfect = {name: actual.to_numpy() for name in table if name.startswith("vix_scaled/")}
    table.assign(**perfect).to_csv(run / "evaluation" / "baselines.csv", index=False)

    def set_losses(metrics):
        for split in metrics.values():
            difference = {"difference": split["pinball"], "low": 0.001, "high": 0.01}
            split["tests"]["diebold_mariano"]["vix_scaled"] |= difference
            split["baselines"]["vix_scaled"]["pinball"] = 0.0
            for values in split["regimes"]["volatility"].values():
                if values["windows"]:
                    values["baselines"]["vix_scaled"]["pinball"] = 0.0

    change(run / "evaluation" / "metrics.json", set_losses)
    assert report_main([str(run)]) == 0
    found = Reader((run / "report.html").read_text())
    assert "The best baseline, vix_scaled, has a pinball loss of 0.0000e-3; the model's is" in found.text
    assert found.row("vix_scaled")[1] == "0.0000"
    assert not {"nan", "inf"} & set(found.text.replace("%", " ").split())
    alts = " ".join(values["aria-label"] for tag, values in found.tags if tag == "svg")
    assert "garch: " in alts
    assert "vix_scaled: " not in alts.partition("AAA")[0]


@pytest.mark.usefixtures("undrawn")
def test_a_baseline_that_failed_is_listed_with_its_reason(trained, tmp_path):
    run = copy_of(trained, tmp_path)

    def lose(metrics):
        for split in metrics.values():
            del split["baselines"]["garch"], split["tests"]["diebold_mariano"]["garch"]

    change(run / "evaluation" / "metrics.json", lose)
    change(
        run / "evaluation" / "notes.json", lambda n: n["left_out"].update(garch="the fit did not converge")
    )
    assert report_main([str(run)]) == 0
    found = Reader((run / "report.html").read_text())
    assert "garch is left out: the fit did not converge." in found.text
    assert f"of {len(BASELINES) - 1} baselines" in found.text
    assert not [row for row in found.rows if row[:1] == ["garch"]]


@pytest.mark.usefixtures("undrawn")
def test_warnings_and_what_has_not_been_made(trained, tmp_path):
    run = copy_of(trained, tmp_path)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line["warnings"] = {"flat": f"sigma {line['epoch']} bp"} if line["epoch"] in (2, 3) else {}
    (run / "metrics.jsonl").write_text("\n".join([*map(json.dumps, lines), '{"half']))
    assert report_main([str(run)]) == 0
    text = Reader((run / "report.html").read_text()).text
    assert "flat, in 2 of 8 epochs, first in 2, last in 3: sigma 3 bp." in text
    assert f"tftjax interpret {run}" in text
    assert "No quality modes: the test rows are fewer than a window" in text


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_is_ranked_on_validation_and_says_so(swept, capsys):
    member = swept / "members" / "control-s43"
    assert report_main([str(swept), str(member)]) == 0
    assert capsys.readouterr().out.split() == [f"{d}/report.html" for d in (member, swept)]
    found = Reader((swept / "report.html").read_text())
    assert "the ensemble of control, first on validation; it beats" in found.text
    # 1.9 and 2.1: the standard error of their mean is 0.1; their t interval reaches 12.706 times as far.
    assert found.row("control, 2 seeds")[1] == "2.0000 ± 0.1000"
    assert (
        "validation rows, 1e-3, mean over 2 seeds [95 % t interval]: 2.0000 [0.7294, 3.2706];" in found.text
    )
    headings = [row[0] for row in found.rows]
    assert headings.index("control, 2 seeds") < headings.index("weak, 2 seeds")
    # On test too, where weak is the better one.
    second = headings.index("control, 2 seeds", headings.index("weak, 2 seeds"))
    assert found.rows[second][1] == "2.6000 ± 0.1000"
    metrics = json.loads((swept / "ensembles/control/evaluation/metrics.json").read_text())
    assert found.row("control, ensemble of 2")[1] == f"{1e3 * metrics['val']['pinball']:.4f}"
    # Copies of one run have equal forecasts.
    together = [row for row in found.rows if row[0] in ("control", "weak") and {"yes", "no"} & {*row}]
    assert [row[0] for row in together] == ["control", "weak"] * 2
    assert together[0][1:] == together[1][1:]
    differences = [row[1] for row in found.rows if row[0] == "weak" and "[" in row[1]]
    assert differences[:2] == ["+0.3000 [+0.3000, +0.3000]", "-1.0000 [-1.0000, -1.0000]"]
    assert "Diverged, and left out: weak-s44." in found.text
    assert found.row("weak-s44")[-1] == "no forecast"
    assert [link for link in found.links if not link.startswith("#")] == ["members/control-s43/report.html"]
    assert "Settings that vary" in found.text


def test_sweeps_without_results(swept, tmp_path, capsys):
    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    results = pd.read_csv(folder / "results.csv")
    results.assign(status="diverged").to_csv(folder / "results.csv", index=False)
    assert report_main([str(folder)]) == 2
    assert "every member diverged" in capsys.readouterr().err
    (folder / "results.csv").unlink()
    assert report_main([str(folder)]) == 2
    assert "results.csv: missing. Finish it: the command that began the sweep" in capsys.readouterr().err
    (folder / "sweep.json").write_text('{"members": [{"fold": "2006"}, {"fold": "2007"}]}')
    assert report_main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert "the walk-forward is not finished: it has no pooled.csv, gains.csv, folds.csv yet" in error
    assert "the command that began the walk-forward, with --resume" in error
    (folder / "sweep.json").write_text('{"members": [')
    assert report_main([str(folder)]) == 2
    assert "sweep.json: cannot be read" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["sweep.json", "results.csv"])
def test_damaged_files_of_a_sweep(name, swept, tmp_path):
    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    check(lambda: report([folder]), folder / name, (folder / name).read_bytes(), range(10))


def test_an_ensemble_that_is_damaged(swept, tmp_path, capsys):
    folder = Path(shutil.copytree(swept, tmp_path / "sweep"))
    for name in ("metrics.json", "predictions.csv"):
        (folder / "ensembles" / "control" / "evaluation" / name).write_text("{")
        assert report_main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert f"{name}: cannot be read" in error
        assert (
            "Make it anew: the command that began the sweep, with --resume, in Python resume=True." in error
        )


def test_headlines_by_hand():
    def metrics(days, **tests):
        found = {name: {"difference": d, "p": p} for name, (d, p) in tests.items()}
        return {"tests": {"days": days, "diebold_mariano": found}}

    better, worse, level, same = (-1.0, 0.04), (1.0, 0.01), (-1.0, 0.06), (0.0, None)
    cases = {
        ("good", "Has earned its keep: beats all 2 baselines"): metrics(30, a=better, b=better),
        ("bad", "Has not earned its keep: beats 1 of 3 baselines"): metrics(30, a=better, b=worse, c=level),
        ("bad", "Has not earned its keep: beats 0 of 1 baselines"): metrics(30, a=same),
        ("open", "No verdict: too few dates"): metrics(29, a=better),
        ("open", "No verdict: no baseline has a forecast"): metrics(30),
    }
    for expected, given in cases.items():
        assert headline(given) == expected


CHROMIUM = browser.find()
ARROW = "new KeyboardEvent('keydown', {key: 'ArrowLeft'})"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome on the PATH, and CHROMIUM is not set")
def test_a_browser_shows_it(judged, page, swept, tmp_path):
    """Phone and desk, light and dark: no complaint, no request, nothing to scroll sideways."""
    assert report_main([str(swept)]) == 0
    with browser.start(CHROMIUM, tmp_path) as tab:
        for path in (judged / "report.html", swept / "report.html"):
            assert_shown(tab, path)
            assert_works(tab, path)
        # The test would see what it looks for.
        tab.open(_broken(tmp_path), 390)
        assert tab.evaluate("document.documentElement.scrollWidth") > 390
        assert len(tab.requests()) == 2
        assert tab.complaints()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome on the PATH, and CHROMIUM is not set")
def test_the_first_chart_is_shown_first_and_a_choice_changes_every_word(undrawn, tmp_path):
    """Names that an object of JavaScript, and sorted JSON, put in another order."""
    days, levels, returns = pd.bdate_range("2020-01-01", periods=7), (0.1, 0.5, 0.9), np.zeros(7)
    forecast = np.tile([-1.0, 0.0, 1.0], (7, 1))
    fans = {}
    for place, (name, rows) in enumerate((("10", 7), ("100", 5), ("9", 6)), start=1):
        fans[name] = fan_data(days, returns, place / 100 * forecast, levels, rows=rows)
    skill = [Line(Key("fold", "purple", "dashed"), np.full(7, value)) for value in (12.0, 34.0)]
    walk = {name: Chart(days, "skill, %", [line]) for name, line in zip("zb", skill, strict=True)}
    svg = '<svg xmlns="http://www.w3.org/2000/svg" aria-label="of both" />'
    both = theme.Picture("Skill", "of both", svg, svg, (), "z in 1, b in 2", walk)
    fan = fan_picture(fans)._replace(wide=svg.replace("of both", "of the first"))
    path = tmp_path / "choice.html"
    page = Page("a", "b", None, [], fan, [Chapter("a", "A", [both])])
    path.write_text(render(page), encoding="utf-8")

    def said(tab, place):
        figure = f"document.querySelectorAll('figure')[{place}]"
        tab.evaluate(f"{figure}.querySelector('.chart svg').dispatchEvent({ARROW})")
        parts = "['h3', '.readout', '.chart svg', 'figcaption'].map(it => figure.querySelector(it))"
        return tab.evaluate(
            f"(() => {{ const figure = {figure}, [a, b, c, d] = {parts};"
            " return [a.textContent, b.textContent, c.ariaLabel, d.hidden] })()"
        )

    def choose(tab, place, name):
        choice = f"document.querySelectorAll('figure')[{place}].querySelector('select')"
        tab.evaluate(f"{choice}.value = '{name}'; {choice}.dispatchEvent(new Event('change'))")

    with browser.start(CHROMIUM, tmp_path) as tab:
        tab.open(path, 1280)
        options = "[...document.querySelectorAll('option')].map(it => it.value)"
        assert tab.evaluate(options) == ["10", "100", "9", "z", "b"]
        heading, readout, label, hidden = said(tab, 0)
        assert (heading, label, hidden) == (fan.title, "of the first", False)
        assert fan.title.startswith("The last 7 forecasts, series 10:")
        assert "80 % -1.00 to +1.00" in readout
        choose(tab, 0, "9")
        heading, readout, label, hidden = said(tab, 0)
        assert heading.startswith("The last 6 forecasts, series 9:")
        assert (label, hidden) == (heading, True)
        assert "80 % -3.00 to +3.00" in readout
        choose(tab, 0, "10")
        assert said(tab, 0)[::2] == [fan.title, "of the first"]
        heading, readout, label, hidden = said(tab, 1)
        assert "fold +12" in readout
        assert (heading, label, hidden) == ("Skill", "of both", False)
        choose(tab, 1, "b")
        heading, readout, label, hidden = said(tab, 1)
        assert "fold +34" in readout
        assert (heading, label, hidden) == ("Skill", "b. of both", False)
        assert tab.complaints() == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome on the PATH, and CHROMIUM is not set")
def test_a_level_has_its_digits_and_no_sign(undrawn, tmp_path):
    days = pd.bdate_range("2020-01-01", periods=3)
    forecast = np.array([[4490.0, 4500.0, 4512.3]] * 3)
    chart = fan_data(days, np.array([4490.0, 5123.4, 4512.3]), forecast, (0.1, 0.5, 0.9), LEVEL)
    svg = '<svg xmlns="http://www.w3.org/2000/svg" aria-label="a" />'
    fan = fan_picture({"": chart})._replace(wide=svg, narrow=svg)
    (tmp_path / "level.html").write_text(render(Page("a", "b", None, [], fan, [])), encoding="utf-8")
    with browser.start(CHROMIUM, tmp_path) as tab:
        tab.open(tmp_path / "level.html", 1280)
        press = f"document.querySelector('.chart svg').dispatchEvent({ARROW})"
        tab.evaluate(press)
        readout = tab.evaluate("document.querySelector('.readout').textContent")
        assert readout == "2020-01-03 (level): median 4500; actual 4512.3; 80 % 4490 to 4512.3"
        tab.evaluate(press)
        assert "actual 5123.4;" in tab.evaluate("document.querySelector('.readout').textContent")


def _broken(folder):
    """A page with all that must not be."""
    path = folder / "broken.html"
    path.write_text(
        "<div style='width: 900px'>x</div><img src='gone.png'><script>console.error('no')</script>"
    )
    return path


def test_baselines_are_described():
    assert [name for name, _ in tables.described()] == [*BASELINES, *POOLED]
