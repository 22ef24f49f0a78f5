"""Running a frozen embedder fast."""
