-- What searches would lose by this space. See lookalike.space_missing.
SELECT m.missing, m.queued, m.failed, m.index_missing FROM lookalike.space_missing(:'name') m;
