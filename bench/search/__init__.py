"""Search, filters, index specs and tuning, each against the best by hand."""
