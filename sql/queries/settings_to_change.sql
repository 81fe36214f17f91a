-- The settings that keep plain SQL from complete answers, each with its value and the one wanted.
SELECT format('%s is %s, not %s', c.setting, coalesce(c.value, 'unset'), c.wanted)
FROM lookalike.settings_check c
WHERE NOT c.ok
ORDER BY c.setting;
