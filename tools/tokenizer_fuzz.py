#!/usr/bin/env python3
"""Random and mutated strings through the C tokenizer and through the library that defines the tokenizer; every difference is a bug of ours.

usage: tokenizer_fuzz.py [--binary bitnet-convert] [--blob FILE] [--family NAME] [--seed N] [--count N] [--batch N] [--jobs N] [--against reader]
                         [--sanitize] [FOLDER ...]

Folders default to all of fixtures/tokenizers; --family takes those whose name has NAME in it.  The blob is what `tokenizer pack` writes, unless
--blob gives one.  --against reader compares with fixtures/reader/tokenizer.py instead, on bytes that need not be UTF-8.  Prints strings a second and
the first differences, made small.  The same seed and count give the same strings.  Exit 1: differences.  Needs cc; tokenizers, sentencepiece, tiktoken.
"""
import argparse, array, json, multiprocessing, os, random, subprocess, sys, tempfile, time, unicodedata
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "fixtures/reader")]
import tokenizer_reference
from tokenizer_texts import NASTY

RUNTIME = ROOT / "src/export/c/files/runtime"
SHOWN = 5


# ---- strings ------------------------------------------------------------------------------

def assigned():
    """Every code point that is not a surrogate, in runs of the same kind, so that rare kinds are drawn as often as ideographs."""
    kinds = {}
    for c in map(chr, [*range(0xd800), *range(0xe000, 0x110000)]):
        kind = (unicodedata.category(c), unicodedata.bidirectional(c), bool(unicodedata.decomposition(c)), len(c.encode()), ord(c) >> 12)
        kinds.setdefault(kind, []).append(c)
    return ["".join(v) for v in kinds.values()]


class Strings:
    def __init__(self, folder):
        corpus = (ROOT / "fixtures/tokenizers/corpus.txt").read_text(encoding="utf-8").splitlines()
        self.lines = [t for t in NASTY + corpus if t]
        golden = folder / "golden.json"
        if golden.exists():
            self.lines += [c["text"] for c in json.loads(golden.read_text(encoding="utf-8"))["cases"] if c["text"]]
        self.words = sorted({w for line in self.lines for w in (line.split(" ") + [" " + w for w in line.split()]) if 0 < len(w) < 20})
        self.special = self.specials(folder)
        self.kinds = assigned()
        self.marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
        self.composed = [chr(c) for c in range(0xa0, 0x30000) if unicodedata.decomposition(chr(c))] + [chr(c) for c in range(0x1100, 0x1200)]
        self.ascii = [chr(c) for c in range(128)]
        self.space = list(" \t\n\r\x0b\x0c\x1c\x1f\x85\u00a0\u1680\u2003\u2009\u200b\u2028\u2029\u202f\u205f\u3000\u2581\ufeff")
        self.glue = list(" '.,!?#-_/<|>\u2581\u0120\u200d\u017f") + ["'s", "'LL", "##", "\r\n", "  ", "<0x0A>", " \u2581", "\u2047"]

    @staticmethod
    def specials(folder):
        found = ["<s>", "</s>", "<unk>", "[UNK]", "<|endoftext|>", "<pad>"]
        for name in ("tokenizer.json", "tokenizer_rest.json"):
            if (folder / name).exists():
                found += [t["content"] for t in json.loads((folder / name).read_text(encoding="utf-8"))["added_tokens"]][:300]
        return found

    def pool(self, r):
        return r.choice((self.words, self.words, self.words, self.ascii, self.space, self.glue, self.marks, self.composed, self.special, [r.choice(self.kinds)]))

    def characters(self, r, n):
        out = []
        for _ in range(r.randint(1, 3)):
            pool = self.pool(r)
            if len(pool) == 1:
                pool = pool[0]
            out += r.choices(pool, k=r.randint(1, n))
        r.shuffle(out)
        return "".join(out)

    def long(self, r):
        """Longer than any window a tokenizer may look at; often one word for the pattern."""
        parts = r.choices(self.lines, k=r.randint(1, 4)) + [self.characters(r, 3) * r.randint(1, 80)]
        r.shuffle(parts)
        text = r.choice(("", " ")).join(parts)
        return text if r.random() < 0.5 else "".join(c for c in text if c.isalpha() or c in self.marks[:20])

    def one(self, r):
        kind = r.random()
        if kind < 0.01:
            return self.long(r)
        if kind < 0.45:
            return self.characters(r, 5)
        if kind < 0.55:
            unit = self.characters(r, 2)
            return r.choice(("", " ", "a")) + unit * r.randint(2, max(2, 60 // (len(unit) + 1))) + r.choice(("", " ", "b"))
        text = r.choice(self.lines)
        if len(text) > 60:
            at = r.randrange(len(text) - 30)
            text = text[at:at + r.randint(10, 60)]
        for _ in range(r.randint(1, 4)):
            a = r.randint(0, len(text))
            b = min(len(text), a + r.randint(0, 3))
            what = r.randrange(5)
            if what == 0:
                text = text[:a] + text[b:]
            elif what == 1:
                text = text[:a] + text[a:b] * r.randint(2, 4) + text[b:]
            elif what == 2:
                text = text[:a] + text[a:b].swapcase() + text[b:]
            else:
                text = text[:a] + self.characters(r, 2) + text[b if what == 3 else a:]
        return text

    def broken(self, r):
        """Bytes that are no UTF-8 in places."""
        data = bytearray(self.one(r).encode())
        for _ in range(r.randint(0, 3)):
            at = r.randint(0, len(data))
            data[at:at + r.randint(0, 2)] = r.choice((r.randbytes(r.randint(1, 3)), b"\xe2\x96", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"))
        return bytes(data)


# ---- the two sides ------------------------------------------------------------------------

def word(*values):
    return array.array("I", values).tobytes() if sys.byteorder == "little" else b"".join(v.to_bytes(4, "little") for v in values)


class Device:
    """The C driver: one process for a batch."""

    def __init__(self, driver, blob):
        self.driver, self.blob = driver, blob

    def ask(self, requests):
        data = b"B" + word(len(self.blob)) + self.blob + b"".join(requests)
        run = subprocess.run([self.driver], input=data, capture_output=True)
        if run.returncode or run.stderr:
            raise RuntimeError(f"driver: {run.returncode} {run.stderr[-3000:].decode(errors='replace')}")
        status = int.from_bytes(run.stdout[:4], "little")
        if status:
            raise RuntimeError(f"driver: the blob is refused with status {status}")
        return run.stdout[4:]

    def texts(self, texts):
        return self.ask([b"G" + word(len(t)) + t for t in texts])

    def decoded(self, lists):
        return self.ask([b"Y" + word(len(ids), *ids) for ids in lists])

    def ids(self, texts):
        answer, at, out = array.array("I", self.texts(texts)), 0, []
        if sys.byteorder != "little":
            answer.byteswap()
        for _ in texts:
            out.append(list(answer[at + 2:at + 2 + answer[at + 1]]) if answer[at] == 0 else f"status {answer[at]}")
            at += 2 + answer[at + 1]
        return out


def build_driver(folder, sanitize):
    out = Path(folder) / "driver"
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"] if sanitize else ["-O2"]
    sources = [ROOT / "tests/c/tokenizer_driver.c", *sorted(RUNTIME.glob("bitnet_tok*.c"))]
    subprocess.run([os.environ.get("CC", "cc"), "-std=c99", *flags, "-I", RUNTIME, "-o", out, *sources], check=True)
    return str(out)


class Reader:
    """fixtures/reader, in place of a library."""

    def __init__(self, blob):
        import tokenizer
        self.tok = tokenizer.Tokenizer(blob)

    def batch(self, texts):
        return [self.tok.encode(x) for x in texts]

    def decode_batch(self, lists):
        return [self.tok.decode(ids, True) for ids in lists]


class Library:
    """The foreign library; texts are UTF-8."""

    def __init__(self, folder):
        self.tok = tokenizer_reference.load(folder)

    def batch(self, texts):
        return self.tok.batch([t.decode() for t in texts])

    def decode_batch(self, lists):
        return self.tok.decode_batch(lists)


STATE = {}


def start(folder, driver, blob, against):
    STATE["strings"] = Strings(folder)
    STATE["device"] = Device(driver, blob)
    STATE["broken"] = against == "reader"
    STATE["want"] = Reader(blob) if against == "reader" else Library(folder)


def both(text):
    """What the two sides make of one text: ids, and the text of the reference's ids."""
    theirs = STATE["want"].batch([text])[0]
    ours = STATE["device"].ids([text])[0]
    if ours != theirs:
        return ours, theirs
    return STATE["device"].decoded([theirs])[8:], STATE["want"].decode_batch([theirs])[0].encode()


def batch(job):
    """Texts of a batch that differ, in ids or in the text of the ids."""
    seed, count = job
    r = random.Random(seed)
    s = STATE["strings"]
    texts = [s.broken(r) for _ in range(count)] if STATE["broken"] else [s.one(r).encode() for _ in range(count)]
    theirs = STATE["want"].batch(texts)
    decoded = [t.encode() for t in STATE["want"].decode_batch(theirs)]
    same = STATE["device"].texts(texts) == b"".join(word(0, len(ids), *ids) for ids in theirs)
    if same and STATE["device"].decoded(theirs) == b"".join(word(0, len(t)) + t for t in decoded):
        return count, []
    return count, [t for t, (a, b) in zip(texts, map(both, texts)) if a != b]


def smaller(text):
    """The shortest text found that still differs, by leaving parts out."""
    def differs(t):
        ours, theirs = both(t)
        return (t, ours, theirs) if ours != theirs else None
    best = differs(text)
    units = [bytes([b]) for b in text] if STATE["broken"] else [c.encode() for c in text.decode()]
    size = len(units) // 2
    while best and size:
        at = 0
        while at < len(units):
            rest = units[:at] + units[at + size:]
            found = differs(b"".join(rest))
            if found:
                units, best = rest, found
            else:
                at += size
        size //= 2
    return best


def run(folder, args, scratch, driver):
    blob = Path(args.blob) if args.blob else Path(scratch) / "tok.bin"
    if not args.blob:
        done = subprocess.run([args.binary, "tokenizer", "pack", "--model", folder, "-o", blob], capture_output=True, text=True)
        if done.returncode:
            print(f"{folder.name}: not packed: {done.stderr.strip()}")
            return True
    setup = (folder, driver, blob.read_bytes(), args.against)
    began, total, found = time.time(), 0, []
    seeds = random.Random(f"{args.seed} {folder.name}")
    jobs = [(seeds.getrandbits(64), min(args.batch, args.count - at)) for at in range(0, args.count, args.batch)]
    with multiprocessing.Pool(args.jobs, start, setup) as pool:
        for count, differences in pool.imap_unordered(batch, jobs):
            total += count
            found += differences
            if len(found) >= 200:
                pool.terminate()
                break
    seconds = time.time() - began
    print(f"{folder.name}: {total} strings, {total / seconds:.0f} a second, {len(found)} differences", flush=True)
    if found:
        start(*setup)
        seen = {}
        for text in sorted(found, key=len)[:60]:
            small = smaller(text)
            if small:
                seen.setdefault(small[0], small)
        for text, ours, theirs in sorted(seen.values(), key=lambda x: (len(x[0]), x[0]))[:SHOWN]:
            print(f"  {text.decode('utf-8', 'backslashreplace')!r} ({text.hex()}): ours {ours}, theirs {theirs}")
    return bool(found)


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("folders", nargs="*", type=Path)
    p.add_argument("--binary", default="bitnet-convert")
    p.add_argument("--blob")
    p.add_argument("--family", default="")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--count", type=int, default=100_000)
    p.add_argument("--batch", type=int, default=5_000)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--against", choices=["library", "reader"], default="library")
    p.add_argument("--sanitize", action="store_true")
    args = p.parse_args()
    folders = args.folders or sorted(x.parent for x in (ROOT / "fixtures/tokenizers").glob("*/golden.json"))
    folders = [f for f in folders if args.family in f.name]
    with tempfile.TemporaryDirectory() as scratch:
        driver = build_driver(scratch, args.sanitize)
        bad = [run(f, args, scratch, driver) for f in folders]
    sys.exit(any(bad))


if __name__ == "__main__":
    main()
