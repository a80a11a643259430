"""The foreign libraries behind the folders of fixtures/tokenizers: what a folder's files mean to `tokenizers`, `sentencepiece` or `tiktoken`.

`load(folder)` gives an object with `encode(text) -> ids` and `decode(ids) -> text`, without the ids that a template adds.
"""
import base64, json
from pathlib import Path


class Tokenizers:
    def __init__(self, tok):
        self.tok = tok

    def encode(self, text):
        return self.tok.encode(text, add_special_tokens=False).ids

    def batch(self, texts):
        return [e.ids for e in self.tok.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids):
        return self.tok.decode(ids, skip_special_tokens=False)

    def decode_batch(self, lists):
        return self.tok.decode_batch(lists, skip_special_tokens=False)


class SentencePiece:
    def __init__(self, path):
        import sentencepiece
        self.tok = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, text):
        return self.tok.encode(text)

    def batch(self, texts):
        return self.tok.encode(texts, num_threads=1)

    def decode(self, ids):
        return self.tok.decode(ids)

    def decode_batch(self, lists):
        return [self.tok.decode(ids) for ids in lists]


class Tiktoken:
    def __init__(self, path, pattern):
        import tiktoken
        ranks = {}
        for line in path.read_bytes().split(b"\n"):
            if line:
                token, rank = line.split()
                ranks[base64.b64decode(token)] = int(rank)
        self.tok = tiktoken.Encoding("file", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    def encode(self, text):
        return self.tok.encode(text, disallowed_special=())

    def batch(self, texts):
        return [self.encode(t) for t in texts]

    def decode(self, ids):
        return self.tok.decode(ids)

    def decode_batch(self, lists):
        return [self.tok.decode(ids) for ids in lists]


def byte_level_files(folder):
    """vocab.json and merges.txt, with the settings of tokenizer_rest.json, or of GPT-2 where that is not there."""
    vocab = json.loads((folder / "vocab.json").read_text())
    lines = (folder / "merges.txt").read_text().split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    rest = folder / "tokenizer_rest.json"
    if rest.exists():
        whole = json.loads(rest.read_text())
    else:
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": level,
                 "post_processor": None, "decoder": level, "model": {"type": "BPE"}}
    whole["model"].update(vocab=vocab, merges=[m.split(" ") for m in merges])
    return whole


def load(folder):
    folder = Path(folder)
    import tokenizers
    if (folder / "pattern.txt").exists():
        return Tiktoken(folder / "tokenizer.model", (folder / "pattern.txt").read_text().strip())
    for name in ("tokenizer.model", "spiece.model"):
        # Where both are, tokenizer.json is the same tokenizer in the words of another library.
        if (folder / name).exists():
            return SentencePiece(folder / name)
    if (folder / "tokenizer.json").exists():
        return Tokenizers(tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")))
    if (folder / "vocab.json").exists():
        return Tokenizers(tokenizers.Tokenizer.from_str(json.dumps(byte_level_files(folder))))
    if (folder / "vocab.txt").exists():
        return Tokenizers(tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"))._tokenizer)
    raise SystemExit(f"{folder}: no tokenizer that this script knows")
