"""A run's config: a module a section, read from JSON, checked and overridden in `loading`."""
