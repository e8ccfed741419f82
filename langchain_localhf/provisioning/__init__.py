"""Bringing models to this machine and keeping them: what the command line does, as Python functions.

`pull` is the only function of this package that opens a network connection. A model is put together beside the store,
checked there in every way that loading it checks, and put in place in one step; a model that fails leaves the old one
where it was.
"""

from langchain_localhf.provisioning.admission import is_checked
from langchain_localhf.provisioning.compiling import compile_model, pack
from langchain_localhf.provisioning.inventory import add, lock, models, remove, show, verify
from langchain_localhf.provisioning.pulling import pull

__all__ = ["add", "compile_model", "is_checked", "lock", "models", "pack", "pull", "remove", "show", "verify"]
