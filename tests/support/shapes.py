"""Drawn pictures of coloured shapes, and a tiny CLIP that learns the words for them in some seconds; once a run."""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import CLIPConfig, CLIPModel

from langchain_localhf.checkpoint.images import ImagePreparation
from langchain_localhf.engines.images import normalized, prepared
from support import dual_encoders

COLOURS = {"red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 119, 180), "yellow": (240, 200, 30)}
SHAPES = ("circle", "square", "triangle", "star")
KINDS = tuple(product(COLOURS, SHAPES))
_PHRASES = ("a {} {}", "{} {}", "a picture of a {} {}", "{} {}s", "the {} {}")
_MAX_STEPS = 1200
# The loss below which a step has to stay, and for how many steps.
_ENOUGH, _IN_A_ROW = 0.05, 10


def draw(colour: str, shape: str, seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """One shape in one colour, somewhere on light paper, in another size, place and shade for every seed."""
    chance = Random(f"{colour} {shape} {seed}")  # noqa: S311 - pictures are no secret
    width, height = size
    paper = tuple(chance.randint(215, 255) for _ in range(3))
    ink = tuple(max(0, min(255, part + chance.randint(-25, 25))) for part in COLOURS[colour])
    image = Image.new("RGB", size, paper)
    radius = chance.uniform(0.3, 0.45) * min(size)
    # In the middle of the long side, which is all that CLIP looks at.
    across = width / 2 + chance.uniform(-0.08, 0.08) * min(size)
    down = height / 2 + chance.uniform(-0.05, 0.05) * min(size)
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse((across - radius, down - radius, across + radius, down + radius), fill=ink)
    else:
        pen.polygon(_corners(shape, across, down, radius, chance.uniform(-0.15, 0.15)), fill=ink)
    return image


def _corners(shape: str, across: float, down: float, radius: float, turn: float) -> list[tuple[float, float]]:
    count = {"triangle": 3, "square": 4, "star": 10}[shape]
    turn += math.pi / 4 if shape == "square" else 0.0
    lengths = [radius * (0.42 if shape == "star" and corner % 2 else 1.0) for corner in range(count)]
    angles = [2 * math.pi * corner / count - math.pi / 2 + turn for corner in range(count)]
    return [
        (across + length * math.cos(angle), down + length * math.sin(angle))
        for length, angle in zip(lengths, angles, strict=True)
    ]


@cache
def model() -> Path:
    """The folder of a CLIP that has learned `KINDS`, as sentence-transformers saved them; do not change it."""
    folder = dual_encoders.st_clip(Path(mkdtemp(prefix="localhf-tests-")) / "clip")
    _taught(ImagePreparation.read(folder / "0_CLIPModel")).save_pretrained(folder / "0_CLIPModel")
    return folder


def _taught(preparation: ImagePreparation) -> CLIPModel:
    words = dual_encoders.clip_tokenizer()
    shared = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 128}
    text = shared | {"vocab_size": len(words), "max_position_embeddings": dual_encoders.CLIP_TOKENS}
    text |= {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    vision = shared | {"image_size": dual_encoders.IMAGE_SIZE, "patch_size": 8}
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=dual_encoders.DIMENSION)).train()
    optimizer = torch.optim.AdamW(clip.parameters(), lr=2e-3)
    losses: list[float] = []
    for step in range(_MAX_STEPS):
        chance = Random(step)  # noqa: S311 - as above
        phrases = [chance.choice(_PHRASES).format(*kind) for kind in KINDS]
        sizes = [chance.choice([(40, 30), (30, 40)]) for _ in KINDS]
        pictures = [draw(*kind, seed=-1 - step, size=size) for kind, size in zip(KINDS, sizes, strict=True)]
        pixels = normalized(np.stack([prepared(picture, preparation) for picture in pictures]), preparation)
        inputs = words(phrases, padding=True, return_tensors="pt")
        loss = clip(**inputs, pixel_values=torch.from_numpy(pixels), return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) > _IN_A_ROW and max(losses[-_IN_A_ROW:]) < _ENOUGH:
            break
    return clip.eval()
