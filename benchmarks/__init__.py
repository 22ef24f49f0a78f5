"""Side-by-side timings: ratios against a named alternative in the same run. `python -m benchmarks.run`."""
