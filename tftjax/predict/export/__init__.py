"""A trained model as files that need no tftjax: a StableHLO program, its columns as JSON, and a loader.

`program` traces the forecast from raw rows to quantiles, with the target's scale from `scales`; `folder`
writes it; `forecast` is the loader, which is copied beside it and imports nothing of this package.
"""
