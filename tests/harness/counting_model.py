"""Write GGUF models that count, so that their output proves continuity.

After `... 103` such a model says ` 104 105 106`: whatever a failover loses or
repeats is visible. All weights between the embeddings are zero, so the last
token alone decides; after anything but a number it says ` 1`, after the last
number it ends by itself.

A merging one generates the same tokens, and reads its own text in others: its
vocabulary also has `▁103▁104`, as long as both are whole numbers, an odd one
first. Text that it reads has fewer tokens than it was made of; the number that
follows is the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

NUMBERS = 2000
# One thread: several wait for each other in loops, which costs a busy machine most.
MODELFILE = """FROM {gguf}
TEMPLATE \"\"\"{{{{ range .Messages }}}}{{{{ .Content }}}}{{{{ end }}}}\"\"\"
PARAMETER temperature 0
PARAMETER num_thread 1
"""
"""Leaves the last assistant message open: a text so far can be continued."""

_SPECIAL = [(b"<unk>", 2), (b"<s>", 3), (b"</s>", 3)]  # text, token type
_END = 2
_FIRST_NUMBER = len(_SPECIAL) + 256
_CONTEXT = 4096
_LOGIT = 40.0  # far above every chance similarity of two embeddings


@dataclass(frozen=True, slots=True)
class Shape:
    """How much there is to multiply: only the speed depends on it.

    merging: whether two numbers of a text are read as one token
    stuck:   a number after which it says that number for ever
    """

    width: int = 256
    layers: int = 1
    feed_forward: int = 512
    merging: bool = False
    stuck: int | None = None


FAST = Shape()
SLOW = Shape(width=512, layers=8, feed_forward=8192)
"""220 MB of zeros: slow enough to be killed in mid-stream."""


def write_counting_model(folder: Path, shape: Shape = FAST) -> Path:
    """Return the model's file in `folder`; written only where it is not there yet."""
    kind = "merging" if shape.merging else "counting"
    kind += "" if shape.stuck is None else f"-stuck-{shape.stuck}"
    name = f"{kind}-{shape.width}x{shape.layers}x{shape.feed_forward}.gguf"
    path = folder / name
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.{os.getpid()}"  # workers of one test run may race
    writer = gguf.GGUFWriter(part, "llama")
    _add_shape(writer, shape)
    _add_vocabulary(writer, _pairs(shape))
    _add_tensors(writer, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)
    return path


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("counting")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // 4)
    writer.add_rope_freq_base(10000.0)


def _pairs(shape: Shape) -> range:
    """Return the numbers that merge with the one before them."""
    return range(2, NUMBERS, 2) if shape.merging else range(0)


def _add_vocabulary(writer: gguf.GGUFWriter, pairs: range) -> None:
    tokens = [text for text, _ in _SPECIAL]
    tokens += [f"<0x{byte:02X}>".encode() for byte in range(256)]
    tokens += [f"\u2581{number}".encode() for number in range(NUMBERS)]
    tokens += [f"\u2581{number - 1}\u2581{number}".encode() for number in pairs]
    kinds = [kind for _, kind in _SPECIAL] + [6] * 256 + [1] * (NUMBERS + len(pairs))
    # A piece merges from the left (`▁1`, `▁10`, `▁103`); bytes are the last resort.
    scores = [0.0] * len(_SPECIAL) + [-1e4] * 256
    scores += [-number / 1e4 for number in range(NUMBERS)]
    scores += [-1.0] * len(pairs)  # only once both numbers are whole
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(_END)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)


def _add_tensors(writer: gguf.GGUFWriter, shape: Shape) -> None:
    width, wide = shape.width, shape.feed_forward
    embeddings = _embeddings(width)
    output = _output(embeddings)
    if shape.stuck is not None:
        at = _FIRST_NUMBER + shape.stuck
        output[at] += _LOGIT * embeddings[at]
        output[at + 1] = 0.0
    # A pair is read as its second number, and never said.
    seconds = embeddings[[_FIRST_NUMBER + number for number in _pairs(shape)]]
    embeddings = np.concatenate([embeddings, seconds])
    output = np.concatenate([output, np.zeros_like(seconds)])
    writer.add_tensor("token_embd.weight", embeddings.astype(np.float16))
    writer.add_tensor("output.weight", output.astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{norm}.weight", np.ones(width, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            _add_zeros(writer, f"{block}{name}.weight", width, width)
        _add_zeros(writer, f"{block}ffn_gate.weight", wide, width)
        _add_zeros(writer, f"{block}ffn_up.weight", wide, width)
        _add_zeros(writer, f"{block}ffn_down.weight", width, wide)


def _add_zeros(writer: gguf.GGUFWriter, name: str, rows: int, columns: int) -> None:
    writer.add_tensor(name, np.zeros((rows, columns), np.float16))


def _embeddings(width: int) -> np.ndarray:
    """Unit vectors: one shared by all that is no number, one for each number."""
    vectors = np.zeros((_FIRST_NUMBER + NUMBERS, width), np.float32)
    vectors[:_FIRST_NUMBER, 0] = 1.0
    noise = np.random.default_rng(0).standard_normal((NUMBERS, width - 1))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    vectors[_FIRST_NUMBER:, 1:] = noise
    return vectors


def _output(embeddings: np.ndarray) -> np.ndarray:
    """Rows that look for the token before: n + 1 for n, 1 for no number."""
    rows = np.zeros_like(embeddings)
    rows[_FIRST_NUMBER + 1 :] = _LOGIT * embeddings[_FIRST_NUMBER:-1]
    rows[_FIRST_NUMBER + 1] += _LOGIT * embeddings[0]
    rows[_END] = _LOGIT * embeddings[-1]
    return rows
