"""Sources of raw series: CSV files and the API of FRED, Yahoo for the S&P 500."""
