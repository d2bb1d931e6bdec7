"""The pages under docs/reference that `tools/make-reference` makes, a module each."""
