"""The OpenVINO engine: graphs for embeddings, openvino-genai for language models; neither torch nor transformers."""
