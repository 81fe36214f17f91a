"""`python -m app.cli` is `lookalike`."""

from app.cli import main

main()
