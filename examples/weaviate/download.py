#!/usr/bin/env python3
"""Brings models into `models/` beside this file, as the environment names them; run it while an image is built.

    CLIP_MODEL_NAME=clip-ViT-B-32 TEXT_MODEL_NAME=clip-ViT-B-32 ./download.py
    MODEL_NAME=all-MiniLM-L6-v2 ./download.py
    MODEL_NAME=cross-encoder/ms-marco-MiniLM-L6-v2 ./download.py

The names of the variables are those of Weaviate's inference containers. Each model is pulled, verified and compiled by
`localhf`; one that cannot be compiled runs in torch. With --pack, only what was compiled is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from langchain_localhf.checkpoint.checkpoint import Checkpoint

MODELS = Path(__file__).resolve().parent / "models"
FOLDERS = {"CLIP_MODEL_NAME": "clip", "TEXT_MODEL_NAME": "text", "SIGLIP_MODEL_NAME": "siglip", "MODEL_NAME": "model"}
# What the containers take beside these, and what is not run here.
FOREIGN = ("OPEN_CLIP_MODEL_NAME", "OPEN_CLIP_PRETRAINED", "COLPALI_ENGINE_MODEL_NAME")
BOOLEANS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


def wanted() -> dict[str, str]:
    """The name of each model, by the folder that it goes to."""
    if foreign := [variable for variable in FOREIGN if os.environ.get(variable)]:
        sys.exit(f"error: {', '.join(foreign)}: this kind of model is not run here; use a CLIP or SigLIP model")
    names = {folder: os.environ[variable] for variable, folder in FOLDERS.items() if os.environ.get(variable)}
    if "text" in names and "clip" not in names:
        sys.exit("error: TEXT_MODEL_NAME goes with CLIP_MODEL_NAME; a model for texts alone is a MODEL_NAME")
    if not names:
        sys.exit(f"error: name a model: {', '.join(FOLDERS)}")
    return names


def trusted() -> bool:
    """Whether the models may run code of their own; only a clear yes counts."""
    stated = os.environ.get("TRUST_REMOTE_CODE", "")
    if stated.lower() not in BOOLEANS:
        sys.exit(f"error: TRUST_REMOTE_CODE is {stated!r}; use true or false")
    return BOOLEANS[stated.lower()]


def localhf(*arguments: str) -> str | None:
    """What a command prints; None if it failed, and said why."""
    done = subprocess.run(["localhf", *arguments], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603, S607
    return None if done.returncode else done.stdout.strip()


def bring(name: str, folder: str, *, trust: list[str], pack: bool) -> None:
    """Pulls a model, compiles it, and puts it into its folder."""
    brought = localhf("pull", "--compile", *trust, name)
    if brought and pack:
        brought = localhf("pack", brought, "--to", f"{os.environ['LOCALHF_HOME']}/packed")
    elif not brought and not pack:
        brought = localhf("pull", *trust, name)
        print(f"note: {name} is not compiled, and runs in torch", file=sys.stderr)
    if not brought:
        sys.exit(1)
    if folder == "model" and Checkpoint.read(Path(brought)).is_cross_encoder:
        folder = "reranker"
    Path(brought).rename(emptied(folder))


def emptied(folder: str) -> Path:
    """The place for a model, without what an earlier run put there."""
    target = MODELS / folder
    if target.is_symlink():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    return target


def main() -> None:
    """Brings every model that is named; the same one for texts and images is one."""
    names, trust, pack = wanted(), ["--trust-remote-code"] if trusted() else [], "--pack" in sys.argv[1:]
    MODELS.mkdir(exist_ok=True)
    # On the same disk, so that models are moved and not copied.
    with TemporaryDirectory(dir=MODELS, prefix=".store-") as store:
        os.environ["LOCALHF_HOME"] = store
        for folder, name in names.items():
            if folder == "text" and name == names["clip"]:
                emptied("text").symlink_to("clip")
            else:
                bring(name, folder, trust=trust, pack=pack)


if __name__ == "__main__":
    main()
