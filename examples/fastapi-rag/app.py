"""A service that answers questions from a collection of texts: its sources first, then the answer, word by word.

    python index.py ../state_of_the_union
    uvicorn app:app

Settings are environment variables: EMBEDDING_MODEL, DATABASE, CHAT_MODEL, CHAT_BACKEND, MAX_TOKENS.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator  # noqa: TC003 - FastAPI reads it
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any

from collection import DATABASE, EMBEDDING_MODEL, opened
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel, Field

from langchain_localhf import ChatHuggingFace
from langchain_localhf.errors import InputError, LocalHFError

CHAT_MODEL = os.environ.get("CHAT_MODEL", "HuggingFaceTB/SmolLM2-135M-Instruct")
CHAT_BACKEND = os.environ.get("CHAT_BACKEND", "pipeline")
MAX_TOKENS = int(os.environ.get("MAX_TOKENS", "256"))
PASSAGES = 4
PROMPT = ChatPromptTemplate(
    [
        ("system", "Answer from these passages only. If they do not say it, say so.\n\n{passages}"),
        ("human", "{question}"),
    ]
)
logger = logging.getLogger("uvicorn.error")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Loads both models before the first request; one that is not here ends the start, and the log says what helps."""
    app.state.collection = opened()
    app.state.chat = ChatHuggingFace.from_model_id(CHAT_MODEL, backend=CHAT_BACKEND, max_tokens=MAX_TOKENS)
    yield


app = FastAPI(title="Answers from a collection", lifespan=lifespan)


class Question(BaseModel):
    """What is asked."""

    question: str = Field(min_length=1, max_length=2000)


class Source(BaseModel):
    """A passage that the answer is made from."""

    source: str
    passage: str
    relevance: float


class Material(BaseModel):
    """A question, and what there is to answer it from."""

    question: str
    sources: list[Source]


def described(error: LocalHFError) -> dict[str, Any]:
    """An error for a client: what happened, and what helps."""
    return {"error": error.message, "hint": error.hint}


@app.exception_handler(LocalHFError)
async def refuse(_: Request, error: LocalHFError) -> JSONResponse:
    """A text that cannot be used is the client's affair; all else is for whoever runs this."""
    return JSONResponse(described(error), status_code=422 if isinstance(error, InputError) else 503)


@app.exception_handler(RequestValidationError)
async def misread(_: Request, error: RequestValidationError) -> JSONResponse:
    """As FastAPI itself, but without the input: half a character in it cannot be sent back."""
    detail = [{key: problem[key] for key in ("type", "loc", "msg")} for problem in error.errors()]
    return JSONResponse({"detail": detail}, status_code=422)


async def found(asked: Question, request: Request) -> Material:
    """Searches the collection; before the answer begins, so that a failure has a status of its own."""
    passages = await request.app.state.collection.asimilarity_search_with_relevance_scores(asked.question, k=PASSAGES)
    if not passages:
        raise LocalHFError(f"there is nothing in {DATABASE}", hint="fill it: python index.py FOLDER")
    sources = [
        Source(source=document.metadata["source"], passage=document.page_content, relevance=score)
        for document, score in passages
    ]
    return Material(question=asked.question, sources=sources)


@app.post("/ask", response_class=EventSourceResponse)
async def ask(material: Annotated[Material, Depends(found)], request: Request) -> AsyncIterator[ServerSentEvent]:
    """Events: `sources`; a `token` for every piece of the answer; at the end `done`, or `error`."""
    yield ServerSentEvent(event="sources", data=material.sources)
    passages = "\n\n".join(f"[{one.source}]\n{one.passage}" for one in material.sources)
    messages = PROMPT.format_messages(passages=passages, question=material.question)
    whole = None
    try:
        # A client that leaves cancels this, and closing the stream ends the generation.
        async with aclosing(request.app.state.chat.astream(messages)) as pieces:
            async for piece in pieces:
                whole = piece if whole is None else whole + piece
                if piece.text:
                    yield ServerSentEvent(event="token", data=piece.text)
    except LocalHFError as error:
        logger.warning("an answer failed: %s", error)
        yield ServerSentEvent(event="error", data=described(error))
    else:
        usage = whole.usage_metadata
        reason = whole.response_metadata["finish_reason"]
        yield ServerSentEvent(event="done", data={"finish_reason": reason, "usage": usage})


@app.get("/health")
async def health() -> dict[str, str]:
    """Answers once both models are loaded, for nothing listens before."""
    return {"status": "ok", "embedding_model": EMBEDDING_MODEL, "chat_model": CHAT_MODEL}
