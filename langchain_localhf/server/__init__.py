"""`localhf serve`: one server that clients of Weaviate's containers, of OpenAI, and of TEI already speak to.

A request's way: `middleware` (who asks), one module for each protocol (`weaviate`, `openai`, `tei`, `reranking`), which
read the body with `reading` and answer with `replies`; `inference` computes, and shares a batch (`batcher`) with every
other request. `failures` has the one table of errors and statuses; `running` starts and ends it all.
"""
