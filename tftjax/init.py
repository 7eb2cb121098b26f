"""Look at a table and write its config: `python -m tftjax.init my.csv`.

Says what each column seems to be, writes a JSON beside the working directory, and names the next command.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import command_parser, exit_code, rerun

if __name__ == "__main__":  # before the imports that take a second
    rerun("init")

from tftjax import files
from tftjax.config.loading import BEGIN_WITH, from_dict
from tftjax.data.checks import findings
from tftjax.data.tables.inspection import Inspection, inspect, read_any
from tftjax.errors import UserError


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "init",
        """
        Looks at a table of your own, says what it found (rows, their frequency, dates, what each column
        seems to be), and writes the config to train on it. Nothing is trained; edit the config where it is
        wrong.
        """,
        "my.csv",
        "my.csv --target ret --out spx.json",
    )
    parser.add_argument("table", type=Path, help="a CSV or Parquet file, long or wide")
    parser.add_argument("--target", metavar="COLUMN", help="what is forecast; default: found")
    parser.add_argument("--date", metavar="COLUMN", help="the dates; default: found")
    parser.add_argument("--id", metavar="COLUMN", help="the names of several series; default: found")
    parser.add_argument("--out", type=Path, help="the config; default: the table's name with .json")
    parser.add_argument("--overwrite", action="store_true", help="replace the config of that name")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Looks at a CSV or Parquet file and writes the config to train on it."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        table, out = arguments.table, arguments.out or Path(arguments.table.with_suffix(".json").name)
        if not table.is_file():
            raise UserError(
                f"{table}: no such file{files.near(table)}. Give the path of a CSV or Parquet file."
            )
        if out.exists() and not arguments.overwrite:
            raise UserError(f"{out} exists. Choose another --out, or replace it: --overwrite.")
        try:
            found = inspect(read_any(table), arguments.date, arguments.target, arguments.id)
        except UserError as error:
            raise error if str(error).startswith(str(table)) else UserError(f"{table}: {error}") from error
        content = config_of(table, found)
        print("\n".join(words_of(table, found)))
        files.write_json(out, content)
        problems = findings(from_dict({"name": out.stem, **content}, str(out)))
        print(f"\nwrote {out}")
        if problems:
            print("\nto be mended before a training:\n" + "\n".join(problems))
        else:
            print(f"next: tftjax train {out}")

    return exit_code(command)


def config_of(table: Path, found: Inspection) -> dict:
    """The content of a config for a table."""
    notes = f"made by tftjax init {table.name}"
    return {"notes": notes, "data": {"dataset": str(table), **found.data}, **BEGIN_WITH}


def words_of(table: Path, found: Inspection) -> list[str]:
    """The findings in words, a line a column."""
    kind = f"{found.frequency} rows" if found.frequency else "rows"
    unclear = "" if found.frequency else ", at no clear frequency"
    several = f" of {found.series} series" if found.series > 1 else ""
    width = max(len(str(column.name)) for column in found.columns)
    columns = [f"  {column.name:{width}}  {column.words}" for column in found.columns]
    texts = {key: f"{key} {json.dumps(value)}" for key, value in found.data.items() if key != "columns"}
    width = max(map(len, texts.values()), default=0)
    settings = [f"  {text:{width}}  {found.remarks.get(key, '')}".rstrip() for key, text in texts.items()]
    settings += [f"  {key:{width}}  {words}" for key, words in found.remarks.items() if key not in texts]
    head = ["settings:"] if settings else []
    return [f"{table}: {found.rows:,} {kind}{several}{unclear}", *columns, *head, *settings]
