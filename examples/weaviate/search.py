"""Fills Weaviate, which has its vectors and its ranking from `localhf serve`, and searches it by words.

    python search.py "Where do the ships lie?"
    python search.py "a cat on a sofa" holiday/*.jpg

The first searches a few sentences, the second your pictures. Needs: pip install weaviate-client
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import weaviate
from weaviate.classes.config import Configure, DataType, Multi2VecField, Property
from weaviate.classes.query import Rerank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from weaviate.collections import Collection

SENTENCES = (
    "The harbour lies to the north, behind the old lighthouse.",
    "Bread is baked before sunrise.",
    "All ships anchor in the bay when the wind turns.",
    "The library closes at six in winter.",
)


def sentences() -> dict[str, Any]:
    """A collection of texts: text2vec-transformers embeds them, reranker-transformers ranks what is found."""
    return {
        "name": "Sentence",
        "properties": [Property(name="text", data_type=DataType.TEXT, vectorize_property_name=False)],
        "vector_config": Configure.Vectors.text2vec_transformers(
            source_properties=["text"], vectorize_collection_name=False
        ),
        "reranker_config": Configure.Reranker.transformers(),
    }


def pictures() -> dict[str, Any]:
    """A collection of pictures: multi2vec-clip embeds them, and the words that they are searched by."""
    return {
        "name": "Picture",
        "properties": [
            Property(name="path", data_type=DataType.TEXT),
            Property(name="image", data_type=DataType.BLOB),
        ],
        "vector_config": Configure.Vectors.multi2vec_clip(image_fields=[Multi2VecField(name="image")]),
    }


def made_anew(
    client: weaviate.WeaviateClient, settings: dict[str, Any], objects: Sequence[dict[str, str]]
) -> Collection[Any, Any]:
    """A collection with these objects, in place of one that an earlier run made."""
    client.collections.delete(settings["name"])
    collection = client.collections.create(**settings)
    result = collection.data.insert_many(objects)
    if result.has_errors:
        sys.exit(f"error: {next(iter(result.errors.values())).message}")
    return collection


def main(query: str, paths: Sequence[str]) -> None:
    """Fills, searches, prints the best first."""
    with weaviate.connect_to_local() as client:
        if paths:
            images = [{"path": path, "image": base64.b64encode(Path(path).read_bytes()).decode()} for path in paths]
            found = made_anew(client, pictures(), images).query.near_text(query, limit=3)
        else:
            texts = made_anew(client, sentences(), [{"text": text} for text in SENTENCES])
            found = texts.query.near_text(query, limit=3, rerank=Rerank(prop="text", query=query))
        for found_object in found.objects:
            print(found_object.properties.get("text") or found_object.properties["path"])


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "Where do the ships lie?", sys.argv[2:])
