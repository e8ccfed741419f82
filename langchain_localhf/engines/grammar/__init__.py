"""Answers of a required form, the same for every engine; needs llguidance."""
