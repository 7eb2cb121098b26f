"""The keys of a config, and its JSON schema: `python -m tftjax.config keys`."""

import json
import sys
import textwrap
from collections.abc import Sequence

from pydantic_core import PydanticUndefined

from tftjax.cli import command_parser, exit_code
from tftjax.config.loading import Config, all_keys
from tftjax.config.section import OTHER_WORDS, fields, nearest_key, show
from tftjax.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Lists the keys of a config with default and meaning, or prints the JSON schema of its file."""
    parser = command_parser("config", main.__doc__, "keys epochs")
    parser.add_argument(
        "command", choices=["keys", "schema"], help="the keys; or the JSON schema, for editors and validators"
    )
    parser.add_argument(
        "word", nargs="?", metavar="WORD", help="of keys: those that have it in name or meaning"
    )
    arguments = parser.parse_args(argv)

    def command() -> None:
        if arguments.command == "schema":
            print(json.dumps(Config.model_json_schema(), indent=2))
        else:
            print(keys_text(arguments.word or ""))

    return exit_code(command)


def keys_text(word: str) -> str:
    """The dotted keys that have a word in name or meaning: each with its default, and what it is.

    Raises:
      UserError: no key has the word.
    """
    known, lines = set(all_keys()), []
    for key, field in fields(Config, optional=True):
        is_meant = key in OTHER_WORDS.get(word.lower(), ())
        if key not in known or not (is_meant or word.lower() in f"{key} {field.description}".lower()):
            continue
        required = field.default is PydanticUndefined
        lines.append(f"{key}{' (has no default)' if required else f' = {show(field.default)}'}")
        indent = " " * 4
        lines.append(
            textwrap.fill(field.description or "", 80, initial_indent=indent, subsequent_indent=indent)
        )
    if not lines:
        raise UserError(f"no key has {word!r} in name or meaning. {nearest_key(word, all_keys())}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
