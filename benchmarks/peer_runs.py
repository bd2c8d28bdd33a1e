"""One tool's part of `benchmarks.peers`, run by the Python that has it: `python peer_runs.py NAME WORK`.

WORK holds the first layers of a model, its tokenizer, a SAE, and tokens; what was measured is printed as JSON. Only
`ours` imports anything of ours: the others run where it is not installed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

HOOK, N_FEATURES = "blocks.12.hook_resid_post", 512


def memory(name: str) -> int:
    """Bytes that the process holds, "VmRSS", or held at most, "VmHWM"."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


class Measured:
    """Seconds of all processors, for the machine may do other things, and bytes beyond what was held before."""

    def __enter__(self) -> Measured:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        self._held, self._start = memory("VmRSS"), time.process_time()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds, self.peak = time.process_time() - self._start, memory("VmHWM") - self._held


def hooked(work: Path) -> Any:
    """The model as TransformerLens has it, without folding."""
    from sae_lens import HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    model = AutoModelForCausalLM.from_pretrained(work / "model")
    c = model.config
    width = c.hidden_size // c.num_attention_heads
    config = HookedTransformerConfig(
        d_model=c.hidden_size, d_head=width, n_heads=c.num_attention_heads, d_mlp=c.intermediate_size,
        n_layers=c.num_hidden_layers, n_ctx=256, eps=c.rms_norm_eps, d_vocab=c.vocab_size, act_fn=c.hidden_act,
        n_key_value_heads=c.num_key_value_heads, normalization_type="RMS", positional_embedding_type="rotary",
        rotary_adjacent_pairs=False, rotary_dim=width, rotary_base=int(getattr(c, "rope_theta", 0) or 100_000),
        final_rms=True, gated_mlp=True, default_prepend_bos=False,
    )  # fmt: skip
    made = HookedSAETransformer(config)
    made.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(work / "model" / "tokenizer.json"))
    weights = convert_llama_weights(model, config)
    made.load_and_process_state_dict(
        weights, fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    return made


def ours(work: Path) -> dict[str, Any]:
    """Examples of all features in a dataset on disk, and a page of one."""
    from transformers import AutoModelForCausalLM

    from tiny_dashboard import OfflineFeatureCentricDashboard, collect_examples
    from tiny_dashboard.dictionaries import load_dictionary

    model, dictionary = AutoModelForCausalLM.from_pretrained(work / "model").eval(), load_dictionary(work / "sae")
    texts = json.loads((work / "texts.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        with Measured() as collecting:
            collect_examples(
                [model], dictionary, texts, Path(folder) / "out", tokenizer=str(work / "model"), batch_size=64
            )
        dashboard = OfflineFeatureCentricDashboard.open(Path(folder) / "out", tokenizer=str(work / "model"))
        feature = int((work / "feature").read_text())
        dashboard.generate_html(feature)  # the tokenizer loads once
        with Measured() as page:
            html = dashboard.generate_html(feature)
        rows = [(list(e.tokens), list(map(float, e.activations))) for e in dashboard.examples(feature)]
        (work / "rows.json").write_text(json.dumps(rows))
    return {"examples": collecting, "page": page, "bytes": len(html.encode()), "shows": len(rows)}


def sae_dashboard(work: Path) -> dict[str, Any]:
    """Examples and statistics of all features in memory, and a page of one."""
    import torch
    from sae_dashboard.data_writing_fns import save_feature_centric_vis
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner
    from sae_lens import SAE

    model, sae = hooked(work), SAE.load_from_disk(str(work / "sae"), device="cpu")
    tokens = torch.tensor(json.loads((work / "tokens.json").read_text()))
    with tempfile.TemporaryDirectory() as folder:
        config = SaeVisConfig(HOOK, range(N_FEATURES), cache_dir=Path(folder) / "cache", verbose=False)
        with Measured() as collecting:
            data = SaeVisRunner(config).run(encoder=sae, model=model, tokens=tokens)
        data.model = model
        file, feature = Path(folder) / "page.html", int((work / "feature").read_text())
        with Measured() as page:
            save_feature_centric_vis(data, file, feature, include_only=[feature])
        return {"examples": collecting, "page": page, "bytes": file.stat().st_size, "shows": shown(data, feature)}


def shown(data: Any, feature: int) -> int:
    """How many sequences a page of SAEDashboard or sae_vis has."""
    return sum(len(group.seq_data) for group in data.feature_data_dict[feature].sequence_data.seq_group_data)


def sae_vis(work: Path) -> dict[str, Any]:
    """As SAEDashboard, whose ancestor it is."""
    import torch
    from sae_lens import SAE
    from sae_vis.data_config_classes import SaeVisConfig
    from sae_vis.data_storing_fns import SaeVisData

    model, sae = hooked(work), SAE.load_from_disk(str(work / "sae"), device="cpu")
    tokens = torch.tensor(json.loads((work / "tokens.json").read_text()))
    with Measured() as collecting:
        data = SaeVisData.create(sae, model, tokens, SaeVisConfig(features=range(N_FEATURES)))
    with tempfile.TemporaryDirectory() as folder:
        file, feature = Path(folder) / "page.html", int((work / "feature").read_text())
        with Measured() as page:
            data.save_feature_centric_vis(str(file), feature)
        return {"examples": collecting, "page": page, "bytes": file.stat().st_size}


def circuitsvis(work: Path) -> dict[str, Any]:
    """It draws, and collects nothing: the examples that ours has of the feature."""
    import numpy as np
    from circuitsvis.activations import text_neuron_activations

    rows = json.loads((work / "rows.json").read_text())
    with Measured() as page:
        html = str(text_neuron_activations([t for t, _ in rows], [np.array(a)[:, None, None] for _, a in rows]))
    return {"page": page, "bytes": len(html.encode()), "shows": len(rows), "loads": "unpkg.com" in html}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    made = globals()[sys.argv[1]](Path(sys.argv[2]))
    print("\n" + json.dumps({k: vars(v) if isinstance(v, Measured) else v for k, v in made.items()}))
