"""The JSON schema of a config: `python -m tftjax.config schema`."""

import argparse
import json
import sys
from collections.abc import Sequence

from tftjax.config.loading import Config


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the JSON schema of a config file."""
    parser = argparse.ArgumentParser(
        prog="python -m tftjax.config", description="The config files' JSON schema."
    )
    parser.add_argument(
        "command", choices=["schema"], help="print the JSON schema, for editors and validators"
    )
    parser.parse_args(argv)
    print(json.dumps(Config.model_json_schema(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
