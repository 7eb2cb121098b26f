"""From CSV files to windows on the device: reading, release-date alignment, splits, scaling, gathering."""
