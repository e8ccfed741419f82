"""Code as model repositories hold it, in the styles that exist in the wild; written for these tests.

Each style has what made transformers 5 fail on its kind: imports that are gone, methods that are gone, tensors that
the constructor computes and no file holds.
"""

from __future__ import annotations

from textwrap import dedent

# jina-embeddings-v2: ALiBi as a buffer of the encoder, a gated feed-forward, and everything of transformers 4 that the
# code which it was made from had.
ALIBI_CONFIGURATION = dedent("""
    from collections import OrderedDict

    from transformers.configuration_utils import PretrainedConfig
    from transformers.onnx import OnnxConfig
    from transformers.utils import logging

    logger = logging.get_logger(__name__)


    class AlibiBertConfig(PretrainedConfig):
        model_type = "bert"

        def __init__(self, vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                     intermediate_size=64, max_position_embeddings=2048, layer_norm_eps=1e-12, type_vocab_size=2,
                     qk_post_norm=False, pad_token_id=0, **kwargs):
            super().__init__(pad_token_id=pad_token_id, **kwargs)
            self.vocab_size = vocab_size
            self.hidden_size = hidden_size
            self.num_hidden_layers = num_hidden_layers
            self.num_attention_heads = num_attention_heads
            self.intermediate_size = intermediate_size
            self.max_position_embeddings = max_position_embeddings
            self.layer_norm_eps = layer_norm_eps
            self.type_vocab_size = type_vocab_size
            self.qk_post_norm = qk_post_norm


    class AlibiBertOnnxConfig(OnnxConfig):
        @property
        def inputs(self):
            return OrderedDict([("input_ids", {0: "batch", 1: "sequence"})])
""")

ALIBI_MODELING = dedent("""
    import math

    import torch
    from torch import nn
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.modeling_utils import PreTrainedModel
    from transformers.pytorch_utils import find_pruneable_heads_and_indices, prune_linear_layer

    from .configuration_bert import AlibiBertConfig


    class AlibiBertEmbeddings(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
            self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

        def forward(self, input_ids):
            return self.LayerNorm(self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0])


    class AlibiBertAttention(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.heads = config.num_attention_heads
            self.query = nn.Linear(config.hidden_size, config.hidden_size)
            self.key = nn.Linear(config.hidden_size, config.hidden_size)
            self.value = nn.Linear(config.hidden_size, config.hidden_size)
            self.qk_post_norm = config.qk_post_norm
            if self.qk_post_norm:
                self.layer_norm_q = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
                self.layer_norm_k = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.dense = nn.Linear(config.hidden_size, config.hidden_size)
            self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.pruned_heads = set()

        def prune_heads(self, heads):
            heads, index = find_pruneable_heads_and_indices(heads, self.heads, 8, self.pruned_heads)
            self.query = prune_linear_layer(self.query, index)

        def split(self, states):
            return states.view(states.shape[0], states.shape[1], self.heads, -1).transpose(1, 2)

        def forward(self, hidden, mask, bias, head_mask):
            query, key = self.query(hidden), self.key(hidden)
            if self.qk_post_norm:
                query, key = self.layer_norm_q(query), self.layer_norm_k(key)
            query, key, value = self.split(query), self.split(key), self.split(self.value(hidden))
            scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
            weights = (scores + bias + mask).softmax(-1)
            if head_mask is not None:
                weights = weights * head_mask
            context = (weights @ value).transpose(1, 2).flatten(2)
            return self.LayerNorm(self.dense(context) + hidden)


    class AlibiBertGLU(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.gated_layers = nn.Linear(config.hidden_size, config.intermediate_size * 2, bias=False)
            self.wo = nn.Linear(config.intermediate_size, config.hidden_size)
            self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

        def forward(self, hidden):
            gated, plain = self.gated_layers(hidden).chunk(2, dim=-1)
            return self.layernorm(self.wo(nn.functional.gelu(gated) * plain) + hidden)


    class AlibiBertLayer(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.attention = AlibiBertAttention(config)
            self.mlp = AlibiBertGLU(config)

        def forward(self, hidden, mask, bias, head_mask):
            return self.mlp(self.attention(hidden, mask, bias, head_mask))


    class AlibiBertEncoder(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.layer = nn.ModuleList([AlibiBertLayer(config) for _ in range(config.num_hidden_layers)])
            self.register_buffer("alibi", self.rebuild_alibi_tensor(config), persistent=False)

        @staticmethod
        def rebuild_alibi_tensor(config):
            heads, size = config.num_attention_heads, config.max_position_embeddings
            positions = torch.arange(size)
            distance = (positions[None, :] - positions[:, None]).abs()
            slopes = torch.tensor([2.0 ** (-8 * (head + 1) / heads) for head in range(heads)])
            return (-slopes[:, None, None] * distance).unsqueeze(0)

        def forward(self, hidden, mask, head_mask):
            length = hidden.shape[1]
            for index, layer in enumerate(self.layer):
                hidden = layer(hidden, mask, self.alibi[:, :, :length, :length].to(hidden.dtype), head_mask[index])
            return hidden


    class AlibiBertPreTrainedModel(PreTrainedModel):
        config_class = AlibiBertConfig
        base_model_prefix = "bert"

        def _init_weights(self, module):
            if isinstance(module, nn.Linear):
                module.weight.data.normal_(mean=0.0, std=0.02)


    class AlibiBertModel(AlibiBertPreTrainedModel):
        def __init__(self, config, add_pooling_layer=True):
            super().__init__(config)
            self.embeddings = AlibiBertEmbeddings(config)
            self.encoder = AlibiBertEncoder(config)
            self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if add_pooling_layer else None
            self.post_init()

        def get_input_embeddings(self):
            return self.embeddings.word_embeddings

        def forward(self, input_ids=None, attention_mask=None, head_mask=None, token_type_ids=None, return_dict=None):
            if self.config.is_decoder or self.config.add_cross_attention:
                raise ValueError("an encoder")
            if attention_mask is None:
                attention_mask = torch.ones_like(input_ids)
            mask = self.get_extended_attention_mask(attention_mask, input_ids.size())
            head_mask = self.get_head_mask(head_mask, self.config.num_hidden_layers)
            hidden = self.encoder(self.embeddings(input_ids), mask, head_mask)
            pooled = torch.tanh(self.pooler(hidden[:, 0])) if self.pooler is not None else None
            return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=pooled)
""")

# MosaicBERT, DNABERT-2: a plain attribute instead of a buffer, rebuilt when a text is longer than any before; a class
# made from transformers' own, with transformers' own configuration; `post_init` is not called.
GROWING_MODELING = dedent("""
    import torch
    from torch import nn
    from transformers.modeling_outputs import BaseModelOutput
    from transformers.modeling_utils import find_pruneable_heads_and_indices
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertPreTrainedModel
    from transformers.utils import is_tf_available


    class GrowingLayer(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
            self.dense = nn.Linear(config.hidden_size, config.hidden_size)
            self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
            self.heads = config.num_attention_heads

        def forward(self, hidden, mask, alibi, scale):
            batch, length, size = hidden.shape
            qkv = self.Wqkv(hidden).view(batch, length, 3, self.heads, size // self.heads)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + alibi + mask).softmax(-1)
            return self.norm(self.dense((weights @ value).transpose(1, 2).flatten(2)) * scale + hidden)


    class GrowingEncoder(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.layer = nn.ModuleList([GrowingLayer(config) for _ in range(config.num_hidden_layers)])
            self.heads = config.num_attention_heads
            self._current_alibi_size = int(config.alibi_starting_size)
            self.alibi = torch.zeros((1, self.heads, self._current_alibi_size, self._current_alibi_size))
            self.scales = [torch.tensor(1.0 + index) for index in range(config.num_hidden_layers)]
            self.rebuild_alibi_tensor(size=config.alibi_starting_size)

        def rebuild_alibi_tensor(self, size, device=None):
            slopes = torch.tensor([2.0 ** -(head + 1) for head in range(self.heads)], device=device)
            positions = torch.arange(size, device=device)
            self._current_alibi_size = size
            self.alibi = -slopes[None, :, None, None] * (positions[:, None] - positions[None]).abs()

        def forward(self, hidden, mask):
            length = hidden.shape[1]
            if self._current_alibi_size < length:
                self.rebuild_alibi_tensor(length, hidden.device)
            for layer, scale in zip(self.layer, self.scales):
                hidden = layer(hidden, mask, self.alibi[:, :, :length, :length], scale)
            return hidden


    class BertModel(BertPreTrainedModel):
        def __init__(self, config, add_pooling_layer=False):
            super().__init__(config)
            self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
            self.encoder = GrowingEncoder(config)
            self.init_weights()

        def get_input_embeddings(self):
            return self.embeddings

        def forward(self, input_ids, attention_mask=None, **kwargs):
            mask = (1.0 - attention_mask[:, None, None, :].to(self.dtype)) * -10000.0
            return BaseModelOutput(last_hidden_state=self.encoder(self.embeddings(input_ids), mask))
""")
