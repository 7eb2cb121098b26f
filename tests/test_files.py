"""Files are written whole or not at all."""

import numpy as np
import pandas as pd
import pytest
from tiny import contents

from tftjax import files
from tftjax.errors import UserError


def test_replacing_text_keeps_the_old_on_failure(tmp_path, monkeypatch):
    path = tmp_path / "text"
    files.replace_text(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        files.replace_text(path, "new")
    assert contents(tmp_path) == {"text": b"old"}


def test_a_table_may_have_a_series_of_any_name(tmp_path):
    table = pd.DataFrame({"series": ["NA", "null", "nan", "None"], "value": [1.0, np.nan, 3.0, 4.0]})
    table.to_csv(tmp_path / "t.csv", index=False)
    read = files.read_csv(tmp_path / "t.csv", "", texts=["series"])
    assert read["series"].tolist() == ["NA", "null", "nan", "None"]
    np.testing.assert_array_equal(read["value"], [1.0, np.nan, 3.0, 4.0])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "No columns to parse"),
        ("day,name\n2001-01-02,a\n", "no column value"),
        ("day,name,value\n2001-01-02,a,b\n", "column value: something other than a number"),
        ("day,name,value\n2001-01-02,,1\n", "column name: an empty cell"),
        ("day,name,value\n,a,1\n", "column day: an empty cell"),
        ("day,name,value\n01/02/2001,a,1\n", "column day: '01/02/2001' is no date"),
        ("day,name,value\n2001-01-02,a,1,2\n", "column day: 'a' is no date"),
        (b"day,name,value\n2001-01-02,\xff,1\n", "utf-8"),
    ],
)
def test_a_damaged_table_is_named(text, found, tmp_path):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"t\.csv: cannot be read \(.*({found}).*Make it anew\."):
        files.read_csv(tmp_path / "t.csv", "Make it anew.", texts=["name"], numbers=["value"], dates=["day"])


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("of the user")
    (tmp_path / "a.json.new").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a.json").symlink_to(tmp_path / "elsewhere")
    files.write_json(tmp_path / "a.json", {"b": 1})
    assert (tmp_path / "elsewhere").read_text() == "of the user"
    assert files.read_json(tmp_path / "a.json", "") == {"b": 1}
    assert not (tmp_path / "a.json").is_symlink()
