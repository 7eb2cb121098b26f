"""Search for the best settings: trials from a space, pruned by validation, in as few programs as can be.

`space` says what a search may vary, `folder` what is searched and where, `study` is the only module that
knows Optuna. `run` trains trials in one `batch` after another by the loop of `train`, shown by `view`;
`results` writes what came out, with what the best of so many would be by chance.
"""
