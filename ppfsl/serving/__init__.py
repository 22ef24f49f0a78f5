"""A local page and an HTTP API to try few-shot classification on."""
