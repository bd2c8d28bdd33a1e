"""Small random models of many architectures, and a dictionary and tokenizers for them."""

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from tiny_dashboard.dictionaries import load_dictionary

VOCAB, WIDTH, CONTEXT = 64, 32, 40
N, LAYER = 50, 1  # of the dictionary: its features, and where it reads
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": CONTEXT,
}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
OLD = {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT}
GROUPED = {"num_key_value_heads": 2}
CONFIGS = {
    "gpt2": lambda: GPT2Config(**OLD, **IDS),
    "gptj": lambda: GPTJConfig(**OLD, **IDS, rotary_dim=4),
    "neo": lambda: GPTNeoConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, num_layers=4, num_heads=4, attention_types=[[["global", "local"], 2]],
        **IDS,
    ),
    "neox": lambda: GPTNeoXConfig(**SHAPE, **IDS),
    "opt": lambda: OPTConfig(
        vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=3, num_attention_heads=4, ffn_dim=48,
        word_embed_proj_dim=WIDTH, max_position_embeddings=CONTEXT, **IDS,
    ),
    "bloom": lambda: BloomConfig(vocab_size=VOCAB, hidden_size=WIDTH, n_layer=3, n_head=4, **IDS),
    "llama": lambda: LlamaConfig(**SHAPE, **GROUPED, **IDS),
    "mistral": lambda: MistralConfig(**SHAPE, **GROUPED, **IDS),
    "qwen3": lambda: Qwen3Config(**SHAPE, **GROUPED, **IDS, head_dim=16),
    "gemma2": lambda: Gemma2Config(**SHAPE, **GROUPED, **IDS, head_dim=16),
    "gemma3": lambda: Gemma3TextConfig(**SHAPE, **GROUPED, **IDS, head_dim=16),
    "phi3": lambda: Phi3Config(**SHAPE, **GROUPED, **IDS),
    "olmo2": lambda: Olmo2Config(**SHAPE, **GROUPED, **IDS),
}  # fmt: skip


def small_model(name="llama"):
    torch.manual_seed(0)
    if name == "gemma3 multimodal":
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        vision |= {"image_size": 28, "patch_size": 14}
        text = CONFIGS["gemma3"]().to_dict()
        return Gemma3ForConditionalGeneration(
            Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1)
        ).eval()
    return AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()


class Wrapper:
    def __init__(self, model):
        self._model = model


def make_dictionary(folder, n_models=2, width=WIDTH, threshold=30.0, **options):
    torch.manual_seed(1)
    tensors = {
        "encoder.weight": torch.randn(n_models, width, N),
        "encoder.bias": torch.randn(N),
        "decoder.weight": torch.randn(n_models, N, width),
        "decoder.bias": torch.randn(n_models, width),
        "threshold": torch.tensor(threshold),
    }
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    return load_dictionary(folder, device="cpu", **options), tensors


def word_tokenizer(*words):
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["?", *words])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
