"""Files are written whole or not at all."""

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
