"""Which bytes: what a model name means, where its folder is, and whether the files are the ones that were pulled.

Nothing here knows a framework. Only `hub` may download, and only when someone pulls.
"""
