"""The torch engine: sentence-transformers and transformers, loaded from a folder and proved sound."""
