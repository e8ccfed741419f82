"""More code as model repositories hold it; see `foreign_alibi`."""

from __future__ import annotations

from textwrap import dedent

# nomic-embed: rotary frequencies as a buffer, their sines as caches that fill on demand, its own `from_pretrained`.
ROTARY_CONFIGURATION = dedent("""
    from transformers import GPT2Config


    class RotaryConfig(GPT2Config):
        model_type = "rotary_of_its_own"

        def __init__(self, rotary_emb_base=1000.0, **kwargs):
            self.rotary_emb_base = rotary_emb_base
            super().__init__(**kwargs)
""")

ROTARY_MODELING = dedent("""
    import os

    import torch
    from safetensors.torch import load_file
    from torch import nn
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutput

    from .configuration_rotary import RotaryConfig


    class RotaryEmbedding(nn.Module):
        def __init__(self, dim, base):
            super().__init__()
            self.base = base
            self.dim = dim
            self.register_buffer("inv_freq", self._compute_inv_freq(), persistent=False)
            self._seq_len_cached = 0
            self._cos_cached = None
            self._sin_cached = None

        def _compute_inv_freq(self):
            return 1.0 / (self.base ** (torch.arange(0, self.dim, 2, dtype=torch.float32) / self.dim))

        def forward(self, states):
            length = states.shape[2]
            if length > self._seq_len_cached:
                self._seq_len_cached = length
                frequencies = torch.outer(torch.arange(length, dtype=torch.float32), self.inv_freq)
                self._cos_cached = frequencies.cos()
                self._sin_cached = frequencies.sin()
            cos, sin = self._cos_cached[:length], self._sin_cached[:length]
            first, second = states.chunk(2, dim=-1)
            return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


    class RotaryBlock(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.heads = config.n_head
            self.rotary_emb = RotaryEmbedding(config.n_embd // config.n_head, config.rotary_emb_base)
            self.Wqkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
            self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
            self.norm = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)

        def forward(self, hidden, mask):
            batch, length, size = hidden.shape
            qkv = self.Wqkv(hidden).view(batch, length, 3, self.heads, size // self.heads)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            query, key = self.rotary_emb(query), self.rotary_emb(key)
            weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + mask).softmax(-1)
            return self.norm(self.out_proj((weights @ value).transpose(1, 2).flatten(2)) + hidden)


    class RotaryModel(PreTrainedModel):
        config_class = RotaryConfig
        base_model_prefix = "model"

        def __init__(self, config, **kwargs):
            super().__init__(config)
            self.embeddings = nn.Embedding(config.vocab_size, config.n_embd)
            self.layers = nn.ModuleList([RotaryBlock(config) for _ in range(config.n_layer)])

        @classmethod
        def from_pretrained(cls, model_name, config=None, *inputs, **kwargs):
            if config is None:
                config = cls.config_class.from_pretrained(model_name)
            model = cls(config, *inputs)
            model.load_state_dict(load_file(os.path.join(model_name, "model.safetensors")), strict=False)
            return model.eval()

        def get_input_embeddings(self):
            return self.embeddings

        def forward(self, input_ids, attention_mask=None, **kwargs):
            mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -10000.0
            hidden = self.embeddings(input_ids)
            for layer in self.layers:
                hidden = layer(hidden, mask)
            return BaseModelOutput(last_hidden_state=hidden)
""")

# A part of the model's own in `modules.json`, with weights of its own.
POOLING = dedent("""
    import json
    import os

    import torch
    from safetensors.torch import load_file
    from torch import nn


    class WeightedPooling(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.score = nn.Linear(size, 1)

        def forward(self, features):
            scores = self.score(features["token_embeddings"]).squeeze(-1)
            weights = scores.masked_fill(features["attention_mask"] == 0, float("-inf")).softmax(-1)
            features["sentence_embedding"] = (weights.unsqueeze(-1) * features["token_embeddings"]).sum(1)
            return features

        @staticmethod
        def load(input_path):
            with open(os.path.join(input_path, "config.json")) as file:
                pooling = WeightedPooling(json.load(file)["size"])
            pooling.load_state_dict(load_file(os.path.join(input_path, "model.safetensors")), strict=False)
            return pooling
""")

# Which expert runs depends on the token.
EXPERTS_MODELING = dedent("""
    import torch
    from torch import nn
    from transformers import BertConfig, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutput


    class ExpertsConfig(BertConfig):
        model_type = "experts_of_its_own"


    class ExpertsModel(PreTrainedModel):
        config_class = ExpertsConfig
        base_model_prefix = "model"

        def __init__(self, config):
            super().__init__(config)
            self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
            self.register_buffer("decay", 0.9 ** torch.arange(config.max_position_embeddings), persistent=False)
            self.router = nn.Linear(config.hidden_size, config.num_experts, bias=False)
            experts = [nn.Linear(config.hidden_size, config.hidden_size) for _ in range(config.num_experts)]
            self.experts = nn.ModuleList(experts)
            self.post_init()

        def _init_weights(self, module):
            if isinstance(module, nn.Linear):
                module.weight.data.normal_(std=0.02)

        def get_input_embeddings(self):
            return self.embeddings

        def forward(self, input_ids, attention_mask=None, **kwargs):
            hidden = self.embeddings(input_ids) * self.decay[: input_ids.shape[1], None]
            chosen = self.router(hidden).argmax(-1)
            output = torch.zeros_like(hidden)
            for index, expert in enumerate(self.experts):
                rows = chosen == index
                if rows.any():
                    output[rows] = expert(hidden[rows])
            return BaseModelOutput(last_hidden_state=output)
""")

# A transformer module of the model's own, in the place of sentence-transformers'.
TRANSFORMER = dedent("""
    from sentence_transformers.base.modules import Transformer as Base


    class Transformer(Base):
        pass
""")
