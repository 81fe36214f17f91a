-- How many kept searches wait to be checked. See lookalike.samples_waiting.
SELECT lookalike.samples_waiting();
