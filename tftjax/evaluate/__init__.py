"""How good forecasts are: metrics, baselines, tests of significance, tables, and the verdict."""
