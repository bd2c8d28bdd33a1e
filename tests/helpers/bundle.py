"""A tiny bundle of everything that an app needs: tokenizer, model pair, crosscoder, examples, dashboard.toml."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

WIDTH, LAYERS, LAYER, N_FEATURES, CONTEXT = 32, 3, 1, 64, 1024
DEAD, HOSTILE_FEATURE, BARE_FEATURE = 60, 5, 62  # never fires; has a hostile label; has examples and no label
PWN = "<img src=x onerror=window.__pwned=1>"
HOSTILE_LABEL = f"{PWN}{{{{7*7}}}}${{window.__pwned=1}}</script><script>window.__pwned=1</script>"
CORPUS = [
    "The quick brown fox jumps over the lazy dog.\nAnd then it sleeps.",
    "def read(self, size=-1):\n\treturn self.buffer[:size]\r\n",
    "If the value is not found, the default is returned from the enclosing mapping.",
    "Ça été über straße naïve café 日本語 мир мира — 🙂 👩‍👩‍👧",
    f"Hostile: {PWN} </style> {{{{7*7}}}} ${{7*7}} `x` ]]> <!-- \u202egnp.exe\u202c \u200f",
]
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer():
    """Byte-level BPE with BOS, a chat template, and a token that is hostile by itself."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS * 3, trainer)
    backend.add_tokens([AddedToken(PWN, normalized=False)])
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>", chat_template=CHAT
    )


def make_model(n_tokens: int, seed: int, context: int = CONTEXT):
    """A tiny random Llama that says more than one token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=n_tokens,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            max_position_embeddings=context,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=1,
        )
    ).eval()
    with torch.no_grad():
        model.lm_head.weight[1] = 0  # it does not end by itself
    return model


def write_crosscoder(folder: Path, examples, *, seed: int = 0) -> None:
    """A random crosscoder in the hub layout, whose features fire on about a tenth of `examples` `[n, 2, WIDTH]`."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    encoder, decoder = torch.randn(2, WIDTH, N_FEATURES), torch.randn(2, N_FEATURES, WIDTH)
    encoder /= examples.std() * WIDTH
    encoder[:, :, DEAD] = 0
    values = torch.einsum("nld,ldf->nf", examples, encoder) * decoder.norm(dim=-1).sum(0)
    tensors = {
        "encoder.weight": encoder,
        "encoder.bias": torch.zeros(N_FEATURES),
        "decoder.weight": decoder,
        "decoder.bias": torch.zeros(2, WIDTH),
        "threshold": values.quantile(0.9),
        "k": torch.tensor(6),
        "code_normalization_id": torch.tensor(1),
    }
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    config = {"activation_dim": WIDTH, "dict_size": N_FEATURES, "num_layers": 2, "k": 6}
    (folder / "config.json").write_text(json.dumps(config | {"code_normalization": "CROSSCODER"}))


def make_bundle(root: Path) -> SimpleNamespace:
    """A tokenizer, a model pair, their crosscoder, the true activations as examples, and a dashboard.toml on them."""
    import torch

    from tiny_dashboard.core.examples import Example
    from tiny_dashboard.core.statistics import FeatureStats
    from tiny_dashboard.dictionaries import load_dictionary
    from tiny_dashboard.models.featurizer import Featurizer
    from tiny_dashboard.sources.write import write_dataset

    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(root / "tokenizer")
    pair = [make_model(len(tokenizer), seed) for seed in (0, 1)]
    for name, model in zip(("base", "chat"), pair, strict=True):
        model.save_pretrained(root / name)
    ids = [tokenizer(text)["input_ids"] for text in CORPUS]
    places = SimpleNamespace(d_model=WIDTH, n_models=2, get_activations=None)
    states = [Featurizer(pair, places, tokenizer, LAYER).activations(row) for row in ids]
    write_crosscoder(root / "crosscoder", torch.cat(states))
    dictionary = load_dictionary(root / "crosscoder", device="cpu", layer=LAYER)
    featurizer = Featurizer(pair, dictionary, tokenizer, LAYER)
    values = [featurizer.read(row).values(range(N_FEATURES)) for row in ids]

    def examples():
        for f in range(N_FEATURES):
            rows = [
                Example(float(v[:, f].max()), [], v[:, f].tolist(), row, None, None, doc, 0)
                for doc, (row, v) in enumerate(zip(ids, values, strict=True))
                if v[:, f].max() > 0
            ]
            yield f, sorted(rows, key=lambda e: -e.max_activation)

    def stats():
        everything = torch.cat(values)
        norms = dictionary.decoder_norms()
        for f in range(N_FEATURES):
            fired = everything[:, f][everything[:, f] > 0]
            base, chat = norms[f].tolist()
            if f == BARE_FEATURE:
                yield FeatureStats(f)
                continue
            yield FeatureStats(
                f,
                n_active=len(fired),
                density=len(fired) / len(everything),
                max_activation=float(fired.max()) if len(fired) else None,
                mean_activation=float(fired.mean()) if len(fired) else None,
                histogram=torch.histc(fired, 10).int().tolist() if len(fired) else (),
                histogram_edges=torch.linspace(float(fired.min()), float(fired.max()), 11).tolist()
                if len(fired)
                else (),
                label=HOSTILE_LABEL if f == HOSTILE_FEATURE else f"label {f}",
                top_logits=[[(" base", 1.0)], [(" fox", 2.0), (PWN, 1.0)]],
                bottom_logits=[[(" lazy", -1.0)], [("\n", -2.0)]],
                decoder_norms=[base, chat],
                relative_norm_difference=((chat - base) / max(base, chat) + 1) / 2,
                decoder_cosine=0.1,
                peak_tokens=[(" fox", 2)],
                nearest=[((f + 1) % N_FEATURES, 0.5)],
            )

    metadata = {"models": ["org/base", "org/chat"], "tokenizer": "../tokenizer", "layer": LAYER}
    write_dataset(root / "examples", examples(), stats(), metadata, tokenizer=tokenizer)
    (root / "dashboard.toml").write_text(
        f'title = "Tiny <b>pair</b> & co"\ndescription = "{{{{7*7}}}} ${{7*7}}"\nexamples = "examples"\n'
        f'dictionary = "crosscoder"\nmodels = ["base", "chat"]\ntokenizer = "tokenizer"\nlayer = {LAYER}\n'
        'device = "cpu"\ndtype = "float32"\nmax_new_tokens = 900\nmax_text = 5000\n'
    )
    return SimpleNamespace(
        root=root,
        toml=root / "dashboard.toml",
        tokenizer=tokenizer,
        pair=pair,
        dictionary=dictionary,
        featurizer=featurizer,
        ids=ids,
        values=values,
        most=torch.cat(values).max(0).values.tolist(),
    )
