"""Questions and answers: requests, modes, filters, pages, facets and near-duplicates."""
