"""ONNX files in the runtime of others; tests/onnx/python.rs calls this.

usage: check.py check FILE...      the checker of the onnx package, with shape inference
       check.py run JOBS.json      ONNX Runtime: each prompt at once, then token by token with the cache, against given results
       check.py options JOBS.json  the same without the runtime's optimizations
       check.py genai FOLDERS.json onnxruntime-genai: each prompt's ids, and what it generates greedily, beside what ONNX Runtime alone does
       check.py same JOBS.json     logits of "file" against those of the file "than", to the bit

JOBS is a list of {"file", "prompts": [{"ids", "given", "logits": one row a position}], "unit": what an integer stands for};
FOLDERS one of {"folder", "texts", "new": tokens to generate at most}.
Prints a JSON list, an object for each file.
"""
import json, sys


def check(files):
    import onnx

    for file in files:
        onnx.checker.check_model(file, full_check=True)
        yield {"file": file, "onnx": onnx.__version__}


def session(file, optimized):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


TYPES = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32"}


def empty(port):
    import numpy

    batch, heads, slots, width = port.shape
    size = lambda n, otherwise: n if isinstance(n, int) else otherwise
    return numpy.zeros((size(batch, 1), heads, size(slots, 0), width), TYPES[port.type])


class Model:
    def __init__(self, file, optimized):
        self.session = session(file, optimized)
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = [o.name for o in self.session.get_outputs()]
        self.reset()

    def reset(self):
        self.cache = {i.name: empty(i) for i in self.session.get_inputs() if i.name.startswith("past_key_values.")}
        self.seen = 0

    def feed(self, ids):
        import numpy

        seen, self.seen = self.seen, self.seen + len(ids)
        own = {
            "input_ids": numpy.array([ids], "int64"),
            "attention_mask": numpy.ones((1, self.seen), "int64"),
            "position_ids": numpy.arange(seen, self.seen, dtype="int64")[None],
        }
        given = {name: self.cache[name] if name in self.cache else own[name] for name in self.inputs}
        got = dict(zip(self.outputs, self.session.run(None, given)))
        for name in self.cache:
            self.cache[name] = got["present." + name[len("past_key_values."):]]
        return got["logits"][0]


def run(jobs, optimized=True):
    import numpy, onnxruntime

    for job in jobs:
        model = Model(job["file"], optimized)
        one = "position_ids" in model.inputs
        values = differing = cached = 0
        worst = 0.0
        for prompt in job["prompts"]:
            model.reset()
            ids, given = prompt["ids"], 1 if one else prompt["given"]
            rows = list(model.feed(ids[:given]))
            for at in range(given, len(ids)):
                rows += list(model.feed(ids[at:at + 1]))
                cached += 1
            want = numpy.array(prompt["logits"], "int64")
            got = numpy.array(rows)
            assert got.shape == want.shape, (got.shape, want.shape)
            values += got.size
            if got.dtype == numpy.int32:
                differing += int((got != want).sum())
            else:
                want = want * job["unit"]
                differing += int((got.astype("float64") != want).sum())
                spread = numpy.ptp(want, axis=-1).max()
                worst = max(worst, float(numpy.abs(got - want).max() / max(spread, 1e-30)))
        yield {"file": job["file"], "runtime": onnxruntime.__version__, "values": values, "differing": differing, "cached": cached, "worst": worst}


def greedy(model, ids, most, ends):
    """Tokens after `ids`, and by how much each was the best, as a share of the range of its logits."""
    import numpy

    model.reset()
    tokens, leads, row = [], [], model.feed(ids)[-1]
    while len(tokens) < most:
        second, best = numpy.sort(row)[-2:]
        leads.append(float((best - second) / numpy.ptp(row)))
        token = int(row.argmax())
        if token in ends:
            break
        tokens.append(token)
        row = model.feed([token])[-1]
    return tokens, leads


def genai(folders):
    import numpy, onnxruntime_genai

    for job in folders:
        folder = job["folder"]
        model = onnxruntime_genai.Model(folder)
        tokenizer = onnxruntime_genai.Tokenizer(model)
        plain = Model(folder + "/model.onnx", True)
        said = {"folder": folder, "version": onnxruntime_genai.__version__, "prompts": []}
        ends = [int(t) for t in tokenizer.eos_token_ids]
        for text in job["texts"]:
            ids = [int(t) for t in tokenizer.encode(text)]
            params = onnxruntime_genai.GeneratorParams(model)
            params.set_search_options(max_length=len(ids) + job["new"], do_sample=False)
            generator = onnxruntime_genai.Generator(model, params)
            generator.append_tokens(ids)
            while not generator.is_done():
                generator.generate_next_token()
            new = [int(t) for t in generator.get_sequence(0)][len(ids):]
            tokens, leads = greedy(plain, ids, job["new"], ends)
            said["prompts"].append({"ids": ids, "new": new, "plain": tokens, "leads": leads, "text": tokenizer.decode(numpy.array(new, "int32")) if new else ""})
        padded = tokenizer.encode_batch(job["texts"][:2]).as_numpy()
        params = onnxruntime_genai.GeneratorParams(model)
        params.set_search_options(max_length=padded.shape[1] + job["new"], batch_size=2, do_sample=False)
        generator = onnxruntime_genai.Generator(model, params)
        generator.append_tokens(padded)
        while not generator.is_done():
            generator.generate_next_token()
        said["batch"] = [[int(t) for t in generator.get_sequence(i)][padded.shape[1]:] for i in range(2)]
        yield said


def same(jobs):
    import numpy, onnxruntime

    for job in jobs:
        models = [Model(job[key], True) for key in ("file", "than")]
        values = differing = 0
        for prompt in job["prompts"]:
            ids, given = prompt["ids"], prompt["given"]
            rows = []
            for model in models:
                model.reset()
                got = [model.feed(ids[:given])] + [model.feed(ids[at:at + 1]) for at in range(given, len(ids))]
                rows.append(numpy.concatenate(got))
            values += rows[0].size
            differing += int((rows[0] != rows[1]).sum())
        yield {"file": job["file"], "runtime": onnxruntime.__version__, "values": values, "differing": differing}


def main():
    what, *rest = sys.argv[1:]
    if what == "check":
        done = check(rest)
    elif what == "genai":
        done = genai(json.load(open(rest[0])))
    elif what == "same":
        done = same(json.load(open(rest[0])))
    else:
        done = run(json.load(open(rest[0])), what == "run")
    print(json.dumps(list(done)))


main()
