-- The storage parameters of a table or an index of schema lookalike that were set.
SELECT o.option_name, o.option_value
FROM pg_class c, pg_options_to_table(c.reloptions) o
WHERE c.oid = to_regclass(format('lookalike.%I', :'relation'::text));
