"""The settings of a config: `python -m tftjax.config keys`, and their JSON schema."""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence

from tftjax.cli import WIDTH, command_parser, exit_code
from tftjax.config.loading import Config, all_keys, described
from tftjax.config.section import OTHER_WORDS, nearest_key, show
from tftjax.errors import UserError


def show_schema(arguments: argparse.Namespace) -> None:
    """Prints the JSON schema of a config file, for editors and validators."""
    print(json.dumps(Config.model_json_schema(), indent=2))


def show_keys(arguments: argparse.Namespace) -> None:
    """Prints the settings of a config, each with its default and what it means.

    A word of other libraries, such as lr, finds the settings that it means.

    Raises:
      UserError: a word that stands in no key and no description.
    """
    found = []
    meant = {key for word in arguments.word for key in OTHER_WORDS.get(word.lower(), ())}
    for key, field in described().items():
        words = f"{key} {field.description}".lower()
        if key in meant or all(word.lower() in words for word in arguments.word):
            default = (
                "to be given"
                if field.is_required()
                else f"default {show(field.get_default(call_default_factory=True))}"
            )
            about = textwrap.fill(field.description, WIDTH, initial_indent="    ", subsequent_indent="    ")
            found.append(f"{key}  ({default})\n{about}")
    if not found:
        asked = " ".join(arguments.word)
        raise UserError(
            f"no setting with {asked!r} in its key or description. {nearest_key(asked, all_keys())}"
        )
    print("\n".join(found))


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    top = command_parser(
        "config",
        """
        Lists the settings that a config may hold. A config is a JSON file of sections; the key
        train.max_epochs stands in it as {"train": {"max_epochs": 30}}, and in a command as --set
        train.max_epochs=30. What a config leaves out keeps its default.
        """,
        "keys",
        "keys epochs",
        "schema > schema.json",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "keys", help="list the settings with their defaults", description=show_keys.__doc__.splitlines()[0]
    )
    command.add_argument("word", nargs="*", help="only those with this in their key or description")
    command.set_defaults(run=show_keys)
    command = commands.add_parser("schema", help="print the JSON schema", description=show_schema.__doc__)
    command.set_defaults(run=show_schema)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of the commands; exit code 2 for an error that the user can mend."""
    arguments = make_parser().parse_args(argv)
    return exit_code(lambda: arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
