"""Write a trained model as files that need no tftjax: `tftjax export runs/NAME --out model`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tftjax.cli import command_parser, exit_code, importing


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser(
        "export",
        """
        Writes a trained model into a folder that needs no tftjax: the forecast from raw rows to quantiles as
        a StableHLO program for CPU and CUDA, a JSON of its columns, units and conformal calibration, and a
        loader that needs jax, numpy and flatbuffers. Of a sweep, --config NAME takes the mean of that
        config's seeds.
        """,
        "runs/balanced_01 --out model",
    )
    parser.add_argument("run", type=Path, help="directory of a run, such as runs/balanced_01, or of a sweep")
    parser.add_argument("--config", metavar="NAME", help="of a sweep: the config whose seeds are averaged")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the exported model in the folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the exported model, and prints where."""
    arguments = make_parser().parse_args(argv)

    def command() -> None:
        with importing():
            from tftjax import runtime
            from tftjax.predict.export.folder import FILES, export
            from tftjax.sweep.ensembles import open_runs
        runtime.configure()
        seeds = open_runs(arguments.run, arguments.config)
        folder = export(seeds, arguments.out, overwrite=arguments.overwrite)
        for name in FILES:
            print(f"{folder / name}  {(folder / name).stat().st_size / 1e3:,.0f} KB")

    return exit_code(command)


if __name__ == "__main__":
    sys.exit(main())
