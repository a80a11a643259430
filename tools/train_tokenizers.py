#!/usr/bin/env python3
"""Makes fixtures/tokenizers: a small tokenizer of every family, trained on corpus.txt there, with golden.json from the library that defines it.

usage: train_tokenizers.py [FOLDER] [NAME ...]     default: fixtures/tokenizers, all

The same bytes every time with the versions below (pip install tokenizers==0.23.3 sentencepiece==0.2.3 tiktoken==0.14.0). corpus.txt was written
for this project: its sensor phrases, sentences of its documents, and a line of each of many scripts.
"""
import base64, collections, io, json, os, struct, sys, tempfile, unicodedata
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import sentencepiece
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tokenizer_reference
from tokenizer_texts import NASTY

VERSIONS = {"tokenizers": "0.23.3", "sentencepiece": "0.2.3", "tiktoken": "0.14.0"}
ROOT = Path(__file__).resolve().parent.parent
CORPUS = (ROOT / "fixtures/tokenizers/corpus.txt").read_text(encoding="utf-8").splitlines()

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
WITH_GPT2 = {**BYTE_LEVEL, "use_regex": True}


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(kind, *steps):
    return {"type": "Sequence", {"p": "pretokenizers", "n": "normalizers", "d": "decoders"}[kind]: list(steps)}


def added(id, content, special=True, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special, **flags}


def template(*before, after=()):
    """(token, id) pairs around a text."""
    tokens = [*before, *after]
    ids = {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in tokens}
    piece = [{"SpecialToken": {"id": n, "type_id": 0}} for n, _ in before] + [{"Sequence": {"id": "A", "type_id": 0}}]
    piece += [{"SpecialToken": {"id": n, "type_id": 0}} for n, _ in after]
    return {"type": "TemplateProcessing", "single": piece, "pair": piece + [{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": ids}


def whole(model, normalizer=None, pre=None, post=None, decoder=None, tokens=()):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(tokens), "normalizer": normalizer, "pre_tokenizer": pre,
            "post_processor": post, "decoder": decoder, "model": model}


def bpe(vocab, merges, **other):
    base = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
            "byte_fallback": False, "ignore_merges": False}
    return {**base, **other, "vocab": vocab, "merges": [list(m) for m in merges]}


# ---- byte-level BPE -----------------------------------------------------------------------

def train_bytes(size, pre, normalizer=None, specials=(), alphabet=True):
    """Vocabulary and merges of byte-level BPE; `specials` take the first ids."""
    tok = tokenizers.Tokenizer(models.BPE())
    tok.pre_tokenizer = pre
    if normalizer:
        tok.normalizer = normalizer
    letters = pre_tokenizers.ByteLevel.alphabet() if alphabet else []
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, special_tokens=list(specials), initial_alphabet=letters, show_progress=False))
    model = json.loads(tok.to_str())["model"]
    return model["vocab"], model["merges"]


def regex_pre(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])


def byte_spelling():
    """Letter that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    other = [b for b in range(256) if b not in printable]
    return {**{chr(b): b for b in printable}, **{chr(256 + k): b for k, b in enumerate(other)}}


def bytes_gpt2(f):
    vocab, merges = train_bytes(560, pre_tokenizers.ByteLevel(False), specials=["<|endoftext|>"])
    f.json("tokenizer.json", whole(bpe(vocab, merges), pre=WITH_GPT2, post=WITH_GPT2, decoder=WITH_GPT2, tokens=[added(0, "<|endoftext|>")]))


def bytes_gpt2_files(f):
    vocab, merges = train_bytes(500, pre_tokenizers.ByteLevel(False))
    f.json("vocab.json", vocab)
    f.text("merges.txt", "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def bytes_llama3(f):
    vocab, merges = train_bytes(600, regex_pre(LLAMA3))
    top = len(vocab)
    tokens = [added(top + k, t) for k, t in enumerate(["<|begin_of_text|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"])]
    # Every tenth pair of a word's end is not merged, so that ignore_merges is seen.
    kept = [m for k, m in enumerate(merges) if k % 10 or k < 100]
    f.json("tokenizer.json", whole(bpe(vocab, kept, ignore_merges=True), pre=sequence("p", split(LLAMA3), BYTE_LEVEL),
                                   post=template(("<|begin_of_text|>", top)), decoder=WITH_GPT2, tokens=tokens))


def bytes_qwen(f):
    vocab, merges = train_bytes(600, regex_pre(QWEN2), tokenizers.normalizers.NFC())
    top = len(vocab)
    names = [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True), ("<tool_call>", False), ("</tool_call>", False)]
    f.json("tokenizer.json", whole(bpe(vocab, merges), {"type": "NFC"}, sequence("p", split(QWEN2), BYTE_LEVEL), BYTE_LEVEL, BYTE_LEVEL,
                                   [added(top + k, t, s) for k, (t, s) in enumerate(names)]))


def bytes_smollm(f):
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])
    vocab, merges = train_bytes(560, digits, specials=names)
    f.json("tokenizer.json", whole(bpe(vocab, merges), pre=sequence("p", {"type": "Digits", "individual_digits": True}, WITH_GPT2),
                                   decoder=WITH_GPT2, tokens=[added(k, t) for k, t in enumerate(names)]))


def bytes_o200k(f):
    vocab, merges = train_bytes(560, regex_pre(O200K))
    f.json("tokenizer.json", whole(bpe(vocab, merges), pre=sequence("p", split(O200K), BYTE_LEVEL), decoder=BYTE_LEVEL,
                                   tokens=[added(len(vocab), "<|endoftext|>")]))


def bytes_tiktoken(f):
    vocab, merges = train_bytes(600, regex_pre(LLAMA3))
    letter = byte_spelling()
    lines = [b"%s %d" % (base64.b64encode(bytes(letter[c] for c in t)), id) for t, id in sorted(vocab.items(), key=lambda x: x[1])]
    f.bytes("tokenizer.model", b"\n".join(lines) + b"\n")
    f.text("pattern.txt", LLAMA3 + "\n")


def bytes_added(f):
    """Ids that do not follow the ranks, bytes that are missing, and added tokens that swallow spaces or are looked for after NFC."""
    vocab, merges = train_bytes(420, pre_tokenizers.ByteLevel(False), tokenizers.normalizers.NFC(), alphabet=False)
    vocab = {t: k for k, t in enumerate(["<s>", "</s>", "<pad>", *sorted(vocab)])}
    top = len(vocab)
    tokens = [added(0, "<s>"), added(1, "</s>"), added(2, "<pad>"), added(top, "<sep>", lstrip=True, rstrip=True), added(top + 1, "<left>", lstrip=True),
              added(top + 2, "<right>", False, rstrip=True), added(top + 3, "<low>\u00e9", False, normalized=True),
              added(top + 4, "\u00e9t\u00e9", False, normalized=True), added(top + 5, "<mask>", normalized=True, lstrip=True),
              added(top + 6, "e\u0301t", False), added(top + 7, "<|im", False), added(top + 8, "<|im_start|>", False)]
    f.json("tokenizer.json", whole(bpe(vocab, merges), {"type": "NFC"}, {**WITH_GPT2, "add_prefix_space": True},
                                   template(("<s>", 0), after=[("</s>", 1)]), WITH_GPT2, tokens))


# ---- SentencePiece ------------------------------------------------------------------------

def sentence_piece(kind, size, **options):
    """A trained .model, and its pieces as (text, score, type); types: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=out, model_type=kind, vocab_size=size, num_threads=1, minloglevel=2,
        **{"character_coverage": 0.985, "hard_vocab_limit": False, "bos_id": 1, "eos_id": 2, "unk_id": 0, **options})
    return out.getvalue(), [piece(m) for m in fields(out.getvalue()) if m[0] == 1]


def fields(data):
    """Fields of a protobuf message: (number, value), value a number or bytes."""
    def varint(at):
        value = shift = 0
        while True:
            b = data[at]
            at, value, shift = at + 1, value | (b & 127) << shift, shift + 7
            if b < 128:
                return value, at
    at = 0
    while at < len(data):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
        else:
            n, at = varint(at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            value, at = data[at:at + n], at + n
        yield key >> 3, value


def piece(field):
    parts = dict(fields(field[1]))
    return parts[1].decode(), struct.unpack("<f", parts[2])[0] if 2 in parts else 0.0, parts.get(3, 1)


LLAMA = dict(normalization_rule_name="identity", byte_fallback=True, remove_extra_whitespaces=False, add_dummy_prefix=True, split_digits=True,
             allow_whitespace_only_pieces=True)


def spm_bpe_bytes(f):
    model, pieces = sentence_piece("bpe", 760, **LLAMA)
    f.bytes("tokenizer.model", model)


def llama_json(f, normalizer, pre):
    """The pieces of spm-bpe-bytes in the layout of a Llama-2 checkpoint: merges are the pairs of pieces whose join is a piece, best score first."""
    _, pieces = sentence_piece("bpe", 760, **LLAMA)
    vocab = {text: id for id, (text, _, _) in enumerate(pieces)}
    merges = []
    for text, score, kind in pieces:
        if kind == 1:
            pairs = [(text[:k], text[k:]) for k in range(1, len(text)) if text[:k] in vocab and text[k:] in vocab]
            merges += [(score, p) for p in sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))]
    merges = [p for _, p in sorted(merges, key=lambda m: -m[0])]
    decoder = sequence("d", {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                       {"type": "Strip", "content": " ", "start": 1, "stop": 0})
    f.json("tokenizer.json", whole(bpe(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True), normalizer, pre,
                                   template(("<s>", 1)), decoder, [added(k, t) for k, t in enumerate(["<unk>", "<s>", "</s>"])]))


def json_llama2(f):
    llama_json(f, sequence("n", {"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}), None)


def json_llama_metaspace(f):
    llama_json(f, None, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False})


def spm_bpe_nmt_nfkc(f):
    path = rules(MOST)
    f.bytes("tokenizer.model", sentence_piece("bpe", 620, normalization_rule_tsv=str(path))[0])


def rules(blocks):
    """A file of normalization rules of the shape that SentencePiece makes itself: NFKC of blocks of code points, of each way to write them with
    marks apart, the controls and the white space. A rule that says what the rules of its characters say already is left out."""
    old = unicodedata.ucd_3_2_0  # the one version that every Python has
    found = {chr(c): old.normalize("NFKC", chr(c)) for a, b in blocks for c in range(a, b) if not 0xd800 <= c < 0xe000}

    def spellings(c):
        parts = old.decomposition(c).split() if not 0xac00 <= ord(c) < 0xd7a4 else ["%X" % ord(x) for x in old.normalize("NFD", c)]
        if len(parts) < 2 or "<" in parts[0]:
            return [c]
        first, rest = chr(int(parts[0], 16)), "".join(chr(int(x, 16)) for x in parts[1:])
        if len(rest) == 2:  # a syllable with an end is one without it, and the end
            first, rest = old.normalize("NFC", first + rest[0]), rest[1]
        return [c] + [s + rest for s in spellings(first)]

    for c, want in [*found.items()]:
        for s in spellings(c)[1:]:
            if "".join(found.get(x, old.normalize("NFKC", x)) for x in s) != want:
                found[s] = want
    found = {k: v for k, v in found.items() if k != v}
    found.update({c: " " for c in map(chr, [9, 10, 11, 12, 13, 0x85, 0x2028, 0x2029, 0x200b, 0xfeff])})
    found.update({chr(c): "" for c in [*range(1, 9), *range(14, 32), 0x7f, 0xad]})
    path = Path("rules.tsv")  # a model keeps the name
    path.write_text("".join(f"{' '.join('%X' % ord(c) for c in k)}\t{' '.join('%X' % ord(c) for c in v)}\n" for k, v in sorted(found.items())))
    return path


SOME = [(0xa0, 0x250), (0x2000, 0x2200), (0x2460, 0x2480), (0x3000, 0x3001), (0x3231, 0x3240), (0xac00, 0xac40), (0xfb00, 0xfb07), (0xff00, 0xffa0)]
# All but most of Hangul, which would be three quarters of the map.
MOST = [(0xa0, 0xac40), (0xf900, 0x30000)]


def spm_unigram_nfkc(f):
    path = rules(SOME)
    f.bytes("tokenizer.model", sentence_piece("unigram", 600, normalization_rule_tsv=str(path))[0])


def spm_unigram_bytes(f):
    f.bytes("tokenizer.model", sentence_piece("unigram", 800, normalization_rule_name="identity", byte_fallback=True, split_digits=True,
                                              remove_extra_whitespaces=False)[0])


def spm_symbols(f):
    """User-defined symbols, kept whole and never normalized; no dummy prefix."""
    path = rules(SOME)
    f.bytes("tokenizer.model", sentence_piece("bpe", 620, normalization_rule_tsv=str(path), add_dummy_prefix=False, byte_fallback=True, remove_extra_whitespaces=False,
                                              user_defined_symbols=["<sep>", "<|im_start|>", "\uff21\uff42", "pump", "\n\n"])[0])


# ---- unigram and WordPiece in JSON --------------------------------------------------------

METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}


def unigram(pieces, unknown, **other):
    return {"type": "Unigram", "unk_id": unknown, "vocab": [[t, s] for t, s, _ in pieces], "byte_fallback": False, **other}


def json_unigram_t5(f):
    _, pieces = sentence_piece("unigram", 560, normalization_rule_name="nmt_nfkc", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    top = len(pieces)
    tokens = [added(0, "<pad>"), added(1, "</s>"), added(2, "<unk>"), added(top, "<extra_id_0>"), added(top + 1, "<extra_id_1>", lstrip=True)]
    pieces += [("<extra_id_0>", 0.0, 4), ("<extra_id_1>", 0.0, 4)]
    normalizer = sequence("n", {"type": "Nmt"}, {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    f.json("tokenizer.json", whole(unigram(pieces, 2), normalizer, METASPACE, template(after=[("</s>", 1)]), METASPACE, tokens))


def json_unigram_lower(f):
    """Decomposed, without accents, in lower case; the words of white space."""
    _, pieces = sentence_piece("unigram", 560, normalization_rule_name="nfkc_cf")
    normalizer = sequence("n", {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"})
    pre = sequence("p", {"type": "WhitespaceSplit"}, METASPACE)
    f.json("tokenizer.json", whole(unigram(pieces, 0), normalizer, pre, None, METASPACE, [added(k, t) for k, t in enumerate(["<unk>", "<s>", "</s>"])]))


SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def word_pieces(size, normalizer):
    """Letters, then the most frequent words, ends and middles of words; not how WordPiece is trained, but the same every time."""
    pre = pre_tokenizers.BertPreTokenizer()
    words = collections.Counter(w for line in CORPUS for w, _ in pre.pre_tokenize_str(normalizer.normalize_str(line)))
    letters, parts = collections.Counter(), collections.Counter()
    for word, n in words.items():
        letters[word[0]] += n
        for c in word[1:]:
            letters["##" + c] += n
        for a in range(1, len(word)):
            for b in range(a + 2, min(len(word), a + 8) + 1):
                parts["##" + word[a:b]] += n * (b - a - 1)
    def best(counter, n):
        return [t for t, _ in sorted(counter.items(), key=lambda x: (-x[1], x[0]))[:n]]
    chosen = best(letters, size // 2)
    chosen += best(collections.Counter({w: n for w, n in words.items() if len(w) > 1}), size // 4)
    chosen += best(parts, size - len(chosen))
    return list(dict.fromkeys(SPECIALS + chosen))


def word_piece(f, lowercase, cleanup, limit, size):
    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    pieces = word_pieces(size, normalizer)
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": limit,
             "vocab": {t: k for k, t in enumerate(pieces)}}
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": lowercase}
    f.json("tokenizer.json", whole(model, bert, {"type": "BertPreTokenizer"}, template(("[CLS]", 2), after=[("[SEP]", 3)]),
                                   {"type": "WordPiece", "prefix": "##", "cleanup": cleanup}, [added(k, t) for k, t in enumerate(SPECIALS)]))


def wordpiece_uncased(f):
    word_piece(f, True, True, 100, 560)


def wordpiece_cased(f):
    word_piece(f, False, False, 24, 560)


def wordpiece_vocab(f):
    f.text("vocab.txt", "".join(t + "\n" for t in word_pieces(480, tokenizers.normalizers.BertNormalizer())))


# ---- all of them --------------------------------------------------------------------------

FAMILIES = {fn.__name__.replace("_", "-"): fn for fn in [
    bytes_gpt2, bytes_gpt2_files, bytes_llama3, bytes_qwen, bytes_smollm, bytes_o200k, bytes_tiktoken, bytes_added, spm_bpe_bytes, json_llama2,
    json_llama_metaspace, spm_bpe_nmt_nfkc, spm_unigram_nfkc, spm_unigram_bytes, spm_symbols, json_unigram_t5, json_unigram_lower,
    wordpiece_uncased, wordpiece_cased, wordpiece_vocab]}


class Folder:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def bytes(self, name, data):
        (self.folder / name).write_bytes(data)

    def text(self, name, text):
        self.bytes(name, text.encode())

    def json(self, name, value):
        self.text(name, json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")

    def golden(self):
        reference = tokenizer_reference.load(self.folder)
        lines = []
        for text in NASTY:
            ids = reference.encode(text)
            lines.append(json.dumps({"text": text, "ids": ids, "decoded": reference.decode(ids)}, ensure_ascii=False, separators=(",", ":")))
        kind = type(reference).__name__.lower()
        notes = f"made by tools/train_tokenizers.py with {kind} {VERSIONS[kind]}; without the ids of the template, decoded with special tokens"
        self.text("golden.json", json.dumps({"notes": notes})[:-1] + ', "cases": [\n' + ",\n".join(lines) + "\n]}\n")


def main():
    import importlib.metadata
    for name, want in VERSIONS.items():
        if importlib.metadata.version(name) != want:
            print(f"note: {name} {importlib.metadata.version(name)}; the fixtures were made with {want}", file=sys.stderr)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "fixtures/tokenizers"
    target = target.absolute()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for name in sys.argv[2:] or FAMILIES:
            if name not in FAMILIES:
                sys.exit(f"{name}: not one of {' '.join(FAMILIES)}")
            folder = Folder(target / name)
            FAMILIES[name](folder)
            folder.golden()
        os.chdir("/")


if __name__ == "__main__":
    main()
