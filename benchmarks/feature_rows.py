"""The rows of the comparison: what a user may want, how it was tried, and what text-embeddings-inference's source says.

That server cannot run where the others run, so its cells are read, each at a place of one commit.
"""

from __future__ import annotations

from dataclasses import dataclass

TEI = "text-embeddings-inference"
TEI_COMMIT = "0d124dc9773be6ac5a9a57d8439aba9bbbf33273"
TEI_DATE = "2026-07-24"
_SOURCE = f"https://github.com/huggingface/{TEI}/blob/{TEI_COMMIT}"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: The probes' name for it.
        title: What a user may want.
        tried: What the probes do.
        tei: The cell of text-embeddings-inference.
        places: Where its source says so: files, with lines.
        why: What stands there.
        telling: Whether the README has this row, too.
    """

    name: str
    title: str
    tried: str
    tei: str
    places: tuple[str, ...]
    why: str
    telling: bool = False

    @property
    def links(self) -> str:
        """The places, as links."""
        return ", ".join(f"[{place.partition('#')[0]}]({_SOURCE}/{place})" for place in self.places)


_LIB, _CANDLE, _SERVER = "router/src/lib.rs", "backends/candle/src/lib.rs", "router/src/http/server.rs"
_DOWNLOADS = "core/src/download.rs"

GROUPS: dict[str, tuple[Row, ...]] = {
    "Where a model comes from": (
        Row(
            "cached",
            "a cached model needs no network and no setting",
            "The model lies where the package keeps what it downloaded: once as loading it by its name leaves it there,"
            " and once as `hf download` does. No variable and no argument says that there is no network. Every try to"
            " connect is counted and refused, and waiting between tries is counted instead of waited.",
            "after a try to connect",
            ("backends/src/lib.rs#L722-L742", f"{_DOWNLOADS}#L39-L75"),
            "files of the cache are taken, but the CPU's image first asks the hub which ONNX files there are, and goes"
            " on without an answer",
            telling=True,
        ),
        Row(
            "missing",
            "an absent model is an error, not a download",
            "A name is asked for that is neither in the cache nor a folder; tries to connect are counted.",
            "no: downloads",
            (f"{_LIB}#L78-L110",),
            "what is no folder is downloaded",
        ),
        Row(
            "changed",
            "a changed byte is noticed at load",
            "One bit of one weight is changed in the file, and the model is loaded.",
            "no",
            (f"{_CANDLE}#L275-L280",),
            "weights are read as they are; no file of the source has a checksum",
        ),
        Row(
            "lockfile",
            "a lockfile names every byte",
            "Models are locked, and a byte is changed; where there is no such thing, the public names and commands are"
            " searched.",
            "no; `--revision`",
            ("router/src/main.rs#L28-L30",),
            "one commit can be named at the start",
        ),
    ),
    "Whether it is sound": (
        Row(
            "random",
            "missing weights are an error",
            "A weight is taken out of the file, and the model is loaded twice.",
            "yes",
            ("backends/candle/src/models/bert.rs#L55-L75",),
            "each tensor is asked for by its name, and a missing one ends the start",
            telling=True,
        ),
        Row(
            "pickle",
            "weights as a pickle are refused",
            "The only file of weights is `pytorch_model.bin`, and holds nothing but weights; torch itself refuses one"
            " with code in it.",
            "no: loads it",
            (f"{_CANDLE}#L169-L178", "backends/src/lib.rs#L498-L505"),
            "`pytorch_model.bin` is taken where there is no safetensors",
        ),
        Row(
            "pooling",
            "unstated pooling is an error",
            "The folder holds a plain BERT, without `modules.json`. fastembed has a list of its own, so there a model"
            " is added to the list.",
            "no: takes CLS for BERT",
            (f"{_LIB}#L441-L463",),
            "an error for other models; for all whose type has `bert` in it, CLS and a warning",
        ),
        Row(
            "prompts",
            "the model's saved prompts are applied",
            "A query and a document are compared with the same texts behind the model's prompts.",
            "if the request names one",
            ("router/src/http/types.rs#L385-L395", f"{_LIB}#L250-L262"),
            "`prompt_name` in a request, or one prompt for all that is given at the start",
            telling=True,
        ),
        Row(
            "vectors",
            "vectors equal sentence-transformers'",
            "20 real texts with the real all-MiniLM-L6-v2; the lowest cosine has to be 0.99999 or more. fastembed gets"
            " the same weights as ONNX.",
            "not run; GELU is approximated",
            (f"{_CANDLE}#L226-L231",),
            "candle takes another formula for GELU, and warns of it; an ONNX file is run by onnxruntime",
        ),
        Row(
            "collection",
            "another model's collection is refused",
            "A Chroma collection is filled by one model and searched by another one of the same dimension.",
            "no collections",
            (f"{_SERVER}#L1762-L1776",),
            "a server of vectors knows no collections",
            telling=True,
        ),
    ),
    "What it runs": (
        Row(
            "torchless",
            "runs without torch",
            "A text is embedded in a process in which torch cannot be imported.",
            "yes",
            ("Dockerfile#L58",),
            "a Rust program, with candle and onnxruntime",
            telling=True,
        ),
        Row(
            "own_code",
            "models with their own code, as jina's",
            "A checkpoint whose weights fit the code beside it and not the class of its `model_type`; with"
            " `trust_remote_code`, and without.",
            "its own ports of some",
            (f"{_CANDLE}#L124-L154", f"{_CANDLE}#L233-L235"),
            "jina's, nomic's and Alibaba's are written anew in Rust; an unknown type is an error",
        ),
        Row(
            "stop",
            "a language model's text ends at `stop=`",
            "A model with random weights writes a text, and then again with three of its characters as stop string.",
            "no language models",
            (f"{_SERVER}#L1762-L1776",),
            "no route for them",
            telling=True,
        ),
        Row(
            "structured",
            "chat: any model gives an object of a class",
            "A model with random weights is asked with `with_structured_output`.",
            "no chat",
            (f"{_SERVER}#L1762-L1776",),
            "no route for it",
            telling=True,
        ),
        Row(
            "awaited",
            "chat: `await` lets the event loop go on",
            "`ainvoke` runs beside another task, whose turns are counted.",
            "no chat",
            (f"{_SERVER}#L1762-L1776",),
            "no route for it",
        ),
        Row(
            "rerank",
            "cross-encoders score pairs",
            "Two pairs are scored.",
            "yes",
            (f"{_SERVER}#L1768",),
            "`/rerank`",
        ),
        Row(
            "images",
            "images are embedded (CLIP)",
            "A picture is embedded; by fastembed with a graph that takes what CLIP's takes.",
            "no",
            (f"{_SERVER}#L1762-L1776",),
            "no route for them",
        ),
        Row(
            "server",
            "a server for clients that exist",
            "Requests as OpenAI's, TEI's, Cohere's and Weaviate's clients send them.",
            "OpenAI's and its own clients",
            (f"{_SERVER}#L1763-L1774",),
            "`/v1/embeddings`, `/embed` and more",
        ),
    ),
    "Where others go further": (
        Row(
            "sparse",
            "sparse vectors, and one vector per token",
            "A text goes through models of the shape of SPLADE and ColBERT.",
            "yes, both",
            (f"{_SERVER}#L1765-L1766", f"{_LIB}#L421-L424"),
            "`/embed_sparse` with SPLADE, and `/embed_all`",
            telling=True,
        ),
        Row(
            "hosted",
            "models on Hugging Face's own servers",
            "A vector is asked for from a hosted model; that the host is tried is what can be seen without a network.",
            "it is a server",
            (f"{_SERVER}#L1762-L1776",),
            "no route that leads to another one",
        ),
        Row(
            "gpu",
            "on a GPU, which was not here: who computes",
            "A GPU is asked for where there is none, and the error tells who was asked.",
            "its own CUDA kernels",
            ("Dockerfile-cuda", "backends/candle/src/flash_attn.rs", f"{_CANDLE}#L238-L262"),
            "an image for CUDA, with flash attention; Metal besides",
        ),
    ),
}
ROWS = tuple(row for rows in GROUPS.values() for row in rows)
