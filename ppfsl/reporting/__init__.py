"""What a run leaves to look at: metrics.jsonl, VisualDL, tables in the terminal, plots and the HTML report."""
