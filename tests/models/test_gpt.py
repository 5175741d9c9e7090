import math

import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, Qwen3Config, Qwen3ForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from pipeline.models.config import SIZES, GPTConfig
from pipeline.models.gpt import GPT, gpt_loss

torch.set_num_threads(1)
CONFIG = GPTConfig(vocab_size=97, n_layer=3, d_model=48, n_head=6, n_kv_head=2, seq_len=64, rope_base=5000.0)


def small(**changes: object) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(**(vars(CONFIG) | changes))).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:  # ones would hide a weight that is not applied
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            torch.nn.init.normal_(parameter, std=0.15)
    return model


def qwen3(model: GPT) -> Qwen3ForCausalLM:
    """The Hugging Face model of the same architecture, with our weights."""
    c = model.config
    reference = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=c.vocab_size,
            hidden_size=c.d_model,
            intermediate_size=c.d_ff,
            num_hidden_layers=c.n_layer,
            num_attention_heads=c.n_head,
            num_key_value_heads=c.n_kv_head,
            head_dim=c.d_model // c.n_head,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_base},
            rms_norm_eps=c.norm_eps,
            tie_word_embeddings=c.tie_embedding,
            attention_bias=False,
            max_position_embeddings=c.seq_len,
        )
    ).eval()
    names = {"model.embed_tokens": "embedding", "model.norm": "norm", "lm_head": "head"}
    for i in range(c.n_layer):
        theirs, ours = f"model.layers.{i}", f"blocks.{i}"
        names |= {f"{theirs}.self_attn.{x}_proj": f"{ours}.attention.{x}" for x in "qkvo"}
        names |= {f"{theirs}.self_attn.{x}_norm": f"{ours}.attention.{x}_norm" for x in "qk"}
        names |= {f"{theirs}.mlp.{x}_proj": f"{ours}.mlp.{x}" for x in ("gate", "up", "down")}
        names |= {
            f"{theirs}.input_layernorm": f"{ours}.attention_norm",
            f"{theirs}.post_attention_layernorm": f"{ours}.mlp_norm",
        }
    weights = model.state_dict()
    reference.load_state_dict({f"{theirs}.weight": weights[f"{ours}.weight"] for theirs, ours in names.items()})
    return reference


@pytest.mark.parametrize("tie_embedding", [True, False])
def test_logits_and_gradients_are_qwen3_s(tie_embedding: bool) -> None:
    model = small(tie_embedding=tie_embedding)
    reference = qwen3(model)
    tokens = torch.randint(0, 97, (3, 40), generator=torch.Generator().manual_seed(1))
    ours, theirs = model(tokens), reference(tokens).logits
    assert ours.std() > 0.5  # large enough for the comparison to mean something
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for logits in (ours, theirs):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    torch.testing.assert_close(
        model.blocks[0].attention.k.weight.grad,
        reference.model.layers[0].self_attn.k_proj.weight.grad,
        rtol=1e-4,
        atol=1e-6,
    )
    torch.testing.assert_close(
        model.embedding.weight.grad, reference.model.embed_tokens.weight.grad, rtol=1e-4, atol=1e-6
    )


def test_a_block_without_qk_norm_is_llama_s() -> None:
    model = small()
    block, c = model.blocks[0], model.config
    block.attention.q_norm = block.attention.k_norm = torch.nn.Identity()
    config = LlamaConfig(
        hidden_size=c.d_model,
        intermediate_size=c.d_ff,
        num_attention_heads=c.n_head,
        num_key_value_heads=c.n_kv_head,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_base},
        rms_norm_eps=c.norm_eps,
        attn_implementation="eager",
    )
    layer, weights = LlamaDecoderLayer(config, 0), dict(block.named_parameters())
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            ours = name.replace("self_attn", "attention").replace("_proj", "")
            ours = ours.replace("input_layernorm", "attention_norm").replace("post_attention_layernorm", "mlp_norm")
            parameter.copy_(weights[ours])
    x, positions = torch.randn(2, 9, c.d_model), torch.arange(9)[None]
    mask = torch.full((9, 9), -torch.inf).triu(1)[None, None]
    theirs = layer(x, attention_mask=mask, position_embeddings=LlamaRotaryEmbedding(config)(x, positions))
    cos, sin = LlamaRotaryEmbedding(config)(x, positions)
    ours = block(x, cos[:, None], sin[:, None], None, None, 0)
    torch.testing.assert_close(ours, theirs[0] if isinstance(theirs, tuple) else theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunks", [[7, 1, 1, 1, 1, 1], [1] * 12, [5, 3, 4], [12]])
def test_cached_decoding_equals_the_full_forward(chunks: list[int]) -> None:
    model, tokens = small(), torch.randint(0, 97, (4, 12))
    with torch.no_grad():
        full, cache = model(tokens), model.cache(4, 12)
        parts = torch.cat([model(part, cache=cache) for part in tokens.split(chunks, dim=1)], dim=1)
    assert cache.length == 12
    torch.testing.assert_close(parts, full, rtol=1e-5, atol=1e-5)
    assert torch.equal(parts.argmax(-1), full.argmax(-1))


def test_prompts_of_unequal_length_are_decoded_as_if_alone() -> None:
    model, length = small(), 10
    rows = [torch.randint(1, 97, (n,)) for n in (3, 10, 7)]
    after = torch.randint(1, 97, (3, 5))
    tokens, documents = torch.zeros(3, length, dtype=torch.int64), torch.zeros(3, length, dtype=torch.int64)
    for i, row in enumerate(rows):
        tokens[i, length - len(row) :], documents[i, length - len(row) :] = row, 1
    with torch.no_grad():
        cache = model.cache(3, 15)
        logits = [model(tokens, documents, cache)[:, -1:]]
        logits += [model(after[:, j : j + 1], cache=cache) for j in range(5)]
        batched = torch.cat(logits, dim=1)
        for i, row in enumerate(rows):
            alone = model(torch.cat([row, after[i]])[None])[0, len(row) - 1 :]
            torch.testing.assert_close(batched[i], alone, rtol=1e-5, atol=1e-5)


def test_a_document_never_sees_its_neighbours() -> None:
    model = small()
    documents = torch.tensor([[1] * 9 + [2] * 6 + [1] * 5 + [0] * 4])  # the third reuses the number of the first
    tokens = torch.randint(0, 97, (1, 24))
    other = tokens.clone()
    other[0, :9] = (other[0, :9] + 1) % 97
    with torch.no_grad():
        before, after = model(tokens, documents), model(other, documents)
        assert torch.equal(before[:, 9:], after[:, 9:])
        assert not torch.equal(before[:, :9], after[:, :9])
        for start, end in ((0, 9), (9, 15), (15, 20)):
            alone = model(tokens[:, start:end])
            torch.testing.assert_close(before[:, start:end], alone, rtol=1e-5, atol=1e-5)


def test_packed_loss_is_the_sum_of_separate_losses() -> None:
    model = small()
    a, b = torch.randint(0, 97, (1, 8)), torch.randint(0, 97, (1, 13))
    separate = [
        gpt_loss(model, {"tokens": x[:, :-1], "targets": x[:, 1:], "weights": torch.ones(1, x.shape[1] - 1)})
        for x in (a, b)
    ]
    packed = {
        "tokens": torch.cat([a[:, :-1], b[:, :-1], torch.zeros(1, 3, dtype=torch.int64)], 1),
        "targets": torch.cat([a[:, 1:], b[:, 1:], torch.zeros(1, 3, dtype=torch.int64)], 1),
        "weights": torch.tensor([[1.0] * 19 + [0.0] * 3]),
        "documents": torch.tensor([[1] * 7 + [2] * 12 + [0] * 3]),
    }
    loss, weight, sums = gpt_loss(model, packed)
    assert weight == 19
    torch.testing.assert_close(loss, separate[0][0] + separate[1][0])
    torch.testing.assert_close(sums["nats"], separate[0][2]["nats"] + separate[1][2]["nats"])


def test_nats_of_each_modality_add_up_with_those_of_control() -> None:
    model, kinds = small(), torch.tensor([[0, 1, 1, 2, 0, 2], [0, 3, 3, 3, 0, 0]], dtype=torch.int8)
    tokens, targets = torch.randint(0, 97, (2, 2, 6))
    weights = torch.tensor([[1.0, 0.25, 0.25, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    each = F.cross_entropy(model(tokens).transpose(1, 2), targets, reduction="none")
    sums = gpt_loss(model, {"tokens": tokens, "targets": targets, "weights": weights, "modality": kinds})[2]
    assert sums["tokens"] == 10
    for name, weight, where in (("text", 0.5, kinds == 1), ("image", 2, kinds == 2), ("audio", 3, kinds == 3)):
        assert sums[f"nats/{name}/weight"] == weight
        torch.testing.assert_close(sums[f"nats/{name}"] / weight, each[where].mean())
    control = (each * weights)[kinds == 0].sum()
    torch.testing.assert_close(sums["nats"], control + sum(sums[f"nats/{name}"] for name in ("text", "image", "audio")))


def test_loss_is_weighted_cross_entropy_plus_z_loss() -> None:
    model = small().double()
    tokens, targets = torch.randint(0, 97, (2, 2, 6))
    batch = {"tokens": tokens, "targets": targets, "weights": torch.rand(2, 6)}
    loss, weight, sums = gpt_loss(model, batch, z_weight=0.01)
    loss.backward()
    got = model.head.weight.grad.clone()
    model.zero_grad()
    p = model(batch["tokens"]).softmax(-1)
    z = model(batch["tokens"]).exp().sum(-1).log()
    nats = -p.gather(2, batch["targets"][..., None])[..., 0].log()
    expected = (batch["weights"] * (nats + 0.01 * z**2)).sum()
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(got, model.head.weight.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weight, batch["weights"].sum())
    torch.testing.assert_close(sums["z"].double(), (batch["weights"] * z**2).sum(), rtol=1e-6, atol=1e-6)


def test_a_batch_cut_into_micro_batches_gives_the_same_loss_and_gradient() -> None:
    model, grads, losses = small(), [], []
    batch = {
        "tokens": torch.randint(0, 97, (4, 6)),
        "targets": torch.randint(0, 97, (4, 6)),
        "weights": (torch.rand(4, 6) > 0.6).float(),
    }
    for size in (4, 2, 1):
        model.zero_grad()
        parts = [gpt_loss(model, {k: v[i : i + size] for k, v in batch.items()}) for i in range(0, 4, size)]
        total = sum(part[1] for part in parts)
        for loss, _, _ in parts:
            (loss / total).backward()
        losses.append(sum(part[0].item() for part in parts) / total.item())
        grads.append(model.blocks[1].mlp.up.weight.grad.clone())
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)
    for grad in grads[1:]:
        torch.testing.assert_close(grad, grads[0], rtol=1e-5, atol=1e-8)


def test_under_autocast_the_loss_is_float32_and_close() -> None:
    model = small()
    tokens, targets = torch.randint(0, 97, (2, 2, 6))
    batch = {"tokens": tokens, "targets": targets, "weights": torch.ones(2, 6)}
    exact = gpt_loss(model, batch)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss = gpt_loss(model, batch)[0]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=3e-2, atol=0)  # eight bits of mantissa through three layers


def test_untrained_loss_is_that_of_a_blind_guess() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=1024))
    tokens = torch.randint(0, 1024, (4, 32))
    loss, weight, _ = gpt_loss(
        model, {"tokens": tokens, "targets": tokens.roll(1), "weights": torch.ones(4, 32)}, z_weight=0
    )
    assert (loss / weight).item() == pytest.approx(math.log(1024), abs=0.1)


def test_named_sizes_are_valid_and_as_large_as_they_say() -> None:
    millions = {"tiny": 1.6, "small": 76, "base": 271, "large": 1133, "xl": 3221}
    for name, size in SIZES.items():
        config = GPTConfig(vocab_size=64, **size)
        with torch.device("meta"):
            model = GPT(config)
        body = sum(p.numel() for p in model.parameters()) - 64 * config.d_model
        assert body / 1e6 == pytest.approx(millions[name], rel=0.03), name


def test_bad_sizes_and_long_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="^d_model is 50; use an even multiple of n_head, 4"):
        GPTConfig(vocab_size=8, d_model=50, n_head=4)
    with pytest.raises(ValueError, match="^n_head is 6; use a multiple of n_kv_head, 4"):
        GPTConfig(vocab_size=8, d_model=48, n_head=6, n_kv_head=4)
    with pytest.raises(ValueError, match="65 tokens are more than"):
        small()(torch.zeros(1, 65, dtype=torch.int64))
