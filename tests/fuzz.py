"""Files changed in ways that a disk, an editor or a spreadsheet might, and the check of their reader."""

import copy
import json
import random

import pytest

from tftjax.errors import UserError

JUNK = (None, True, False, -1, 0, 3, 0.5, 1e308, -1e308, 10**30, float("nan"), "", "x", "1", "NaN", "\x00$_{")
JUNK += ([], [1], ["x"], [[]], {}, {"x": 1}, {"": None})
CELLS = (
    "",
    "x",
    "NaN",
    "inf",
    "1e400",
    "-0",
    "0,5",
    '"',
    "2001-02-30",
    "0001-01-01",
    "9999-12-31",
    "#",
    "\t",
)
PIECES = (
    b"\xff",
    b"\x00",
    b"{",
    b"[" * 100_000,
    b'"',
    b",",
    b"\n",
    b"\r",
    b";",
    b"\n\n",
    b"#",
    b"9" * 400,
    b"\\u",
)


def changed_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Some bytes cut off, flipped, put in, taken out, or written twice."""
    place = rng.randrange(len(raw))
    stop = min(len(raw), place + rng.choice((1, 10, 200)))
    return rng.choice(
        (
            lambda: raw[:place],
            lambda: raw[:place] + bytes([raw[place] ^ 1 << rng.randrange(8)]) + raw[place + 1 :],
            lambda: raw[:place] + rng.choice(PIECES) + raw[place:],
            lambda: raw[:place] + raw[stop:],
            lambda: raw[:stop] + raw[place:],
        )
    )()


def nodes(tree):
    """The places of all values in a tree of JSON: what holds each, and its key."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield tree, key
        yield from nodes(value)


def changed_json(raw: bytes, rng: random.Random) -> bytes:
    """A value replaced or taken out, in JSON or in one of its lines."""
    lines = raw.splitlines() if raw.count(b"\n{") else [raw]
    number = rng.randrange(len(lines))
    tree = json.loads(lines[number])
    if rng.random() < 0.1:
        tree = rng.choice(JUNK)
    elif rng.random() < 0.5:  # not too deep: most values are
        tree[rng.choice(list(tree))] = copy.deepcopy(rng.choice(JUNK))
    else:
        holder, key = rng.choice(list(nodes(tree)))
        if rng.random() < 0.3:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(JUNK))
    lines[number] = json.dumps(tree).encode()
    return b"\n".join(lines)


def changed_csv(raw: bytes, rng: random.Random) -> bytes:
    """A cell replaced, in one line or in all below the header; a column or a line taken out or moved."""
    rows = [line.split(",") for line in raw.decode().splitlines()]
    row, column, cell = rng.randrange(len(rows)), rng.randrange(len(rows[0])), rng.choice(CELLS)
    how = rng.randrange(6)
    if how == 0:
        rows[row][column] = cell
    elif how == 1:
        for cells in rows[1:]:
            cells[column] = cell
    elif how == 2:
        for cells in rows:
            del cells[column]
    elif how == 3:
        del rows[row]
    elif how == 4:
        rows.insert(row, rows[rng.randrange(len(rows))])
    else:
        rows = rows[: rng.choice((0, 1, 2, 3))]
    return "\n".join(",".join(cells) for cells in rows).encode()


def changed(name: str, raw: bytes, rng: random.Random) -> bytes:
    """A file changed in a way that a disk, an editor or a spreadsheet might."""
    by_ending = {"json": changed_json, "jsonl": changed_json, "csv": changed_csv}
    return rng.choice((changed_bytes, by_ending[name.rpartition(".")[2]]))(raw, rng)


def check(read, path, raw: bytes, seeds: range) -> None:
    """Changes a file once for each seed, and reads it: what is no UserError is the test's."""
    longest = 0  # of the errors
    for seed in seeds:
        path.write_bytes(changed(path.name, raw, random.Random(f"{path.name} {seed}")))
        try:
            read()
        except UserError as error:
            longest = max(longest, len(str(error)))
        except Exception as error:
            pytest.fail(f"{path.name}, seed {seed}: {type(error).__name__}: {error}")
    path.write_bytes(raw)
    assert 0 < longest < 5_000
