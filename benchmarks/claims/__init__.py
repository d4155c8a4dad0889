"""A file a claim. Each has `figures(rounds) -> list[Figure]` and `COMMANDS`, what it runs, for the page."""
