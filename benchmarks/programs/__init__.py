"""What the benchmarks run: a program a variant, each in a process of its own, which prints JSON in its last line."""
