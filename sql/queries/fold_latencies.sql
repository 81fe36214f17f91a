-- Folds old counts into one slot; returns how many rows. See lookalike.fold_latencies.
SELECT lookalike.fold_latencies();
