"""Classifiers of people's own pictures: built from a few per class, kept in one file, asked about new ones."""
