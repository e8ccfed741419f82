"""Generating text, as far as it is the same for every engine: requests, settings, stop strings, streams of text."""
