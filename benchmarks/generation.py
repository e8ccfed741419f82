"""Compares `langchain_localhf.HuggingFacePipeline` with langchain-huggingface's, side by side on one machine.

The model has the shape of SmolLM2-135M and random weights: it writes nonsense as fast as the real one would write
sense. 32 prompts of mixed length are answered with 64 new tokens each, without stop strings and with some that end the
answers at mixed lengths, which the other package does not heed in `batch`; and the first token of a stream is waited
for. The two take turns, and the medians are compared. Run `python benchmarks/generation.py --help` for the settings.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prepare import language_model
from side_by_side import OURS, THEIRS, in_turns, machine, result, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.language_models.llms import BaseLLM

LIBRARIES = ("langchain-huggingface", "transformers", "tokenizers", "torch")
PROMPTS, NEW_TOKENS = 32, 64
STOPS = 20
WORDS = (  # noqa: SIM905 - easier to read than a list
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they one "
    "which you were all her she there would their we him been has when who will no more if out so up said what its "
    "about than into them can only other time new some could these two may first then do any like my now over such "
    "our man me even most made after also did many before must through back years where much your way well down "
    "should because long each just state people those too how little good world make very year still see own work "
    "president court justice committee legislation infrastructure constitutional manufacturing semiconductor"
).split()


def prompts(count: int) -> list[str]:
    """Texts of 5 to 150 words, in no order."""
    source = random.Random(4)  # noqa: S311 - no secret
    return [" ".join(source.choices(WORDS, k=source.choice((5, 12, 30, 60, 150)))) for _ in range(count)]


def useful_tokens(llm: BaseLLM, texts: Sequence[str], stop: Sequence[str]) -> int:
    """The tokens of the texts before their first stop string: what whoever asked has use for."""
    ends = [min([text.find(word) for word in stop if word in text], default=len(text)) for text in texts]
    return sum(llm.get_num_tokens(text[:end]) for text, end in zip(texts, ends, strict=True))


def first_token(llm: BaseLLM, prompt: str) -> float:
    """The seconds until a stream gives text."""
    start = time.perf_counter()
    stream = llm.stream(prompt, pipeline_kwargs={"max_new_tokens": 8})
    next(piece for piece in stream if piece)
    seconds = time.perf_counter() - start
    for _ in stream:  # the other package's thread runs to its end anyway
        pass
    return seconds


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs everything."""
    import langchain_huggingface  # noqa: PLC0415 - loads torch
    from transformers.utils import logging  # noqa: PLC0415

    import langchain_localhf  # noqa: PLC0415

    logging.set_verbosity_error()
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "return_full_text": False}
    llms: dict[str, BaseLLM] = {
        name: package.HuggingFacePipeline.from_model_id(str(folder), "text-generation", pipeline_kwargs=dict(settings))
        for name, package in ((OURS, langchain_localhf), (THEIRS, langchain_huggingface))
    }
    texts = prompts(arguments.prompts)
    answers = llms[OURS].batch(texts)
    source = random.Random(1)  # noqa: S311 - no secret
    words = [word for text in answers for word in text.split() if len(word) > 3 and word.isascii()]  # noqa: PLR2004
    stop = source.sample(sorted(set(words)), k=STOPS)
    different = [one != other for one, other in zip(answers, llms[THEIRS].batch(texts), strict=True)]
    results, useful = {}, {}
    for label, ends in (("without stop strings", None), (f"with {len(stop)} stop strings", stop)):
        name = f"{len(texts)} prompts, {NEW_TOKENS} new tokens, {label}"
        run = {package: lambda llm=llm, ends=ends: len(llm.batch(texts, stop=ends)) for package, llm in llms.items()}
        results[name] = result(in_turns(run, arguments.rounds))
        useful[name] = useful_tokens(llms[OURS], answers, ends or [])
    same_batch = langchain_huggingface.HuggingFacePipeline(pipeline=llms[THEIRS].pipeline, batch_size=len(texts))
    same_batch.pipeline._batch_size = len(texts)  # noqa: SLF001 - upstream forgets it for a pipeline of one's own
    run = {OURS: lambda: len(llms[OURS].batch(texts)), THEIRS: lambda: len(same_batch.batch(texts))}
    results[f"the same without stop strings, all {len(texts)} in one batch in both"] = result(
        in_turns(run, arguments.rounds)
    )
    for label, prompt in (("5 words", " ".join(WORDS[:5])), ("400 words", " ".join(WORDS * 5)[:2000])):
        wait = {package: lambda llm=llm, prompt=prompt: first_token(llm, prompt) for package, llm in llms.items()}
        results[f"first token of a stream, prompt of {label}"] = result(in_turns(wait, arguments.rounds + 2))
    return {
        "machine": machine(LIBRARIES),
        "different_answers": sum(different),
        "useful_tokens": useful,
        "results": results,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=PROMPTS, help="how many prompts")
    parser.add_argument("--rounds", type=int, default=3, help="how often each answers them")
    parser.add_argument("--json", action="store_true", help="print JSON, with every single time")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        language_model(Path(folder))
        report = compare(Path(folder), arguments)
    if arguments.json:
        print(json.dumps(report, indent=2))
        return
    print(table(report))
    for name, count in report["useful_tokens"].items():
        row = report["results"][name]
        theirs, ours = count / row["theirs_seconds"], count / row["ours_seconds"]
        print(
            f"{name}: {count:,} useful tokens; {theirs:.0f} and {ours:.0f} a second, {ours / theirs:.1f} times as many."
        )
    print(f"Answers that differ between the two: {report['different_answers']}.")


if __name__ == "__main__":
    main()
