// bitnet.js - a model in one WebAssembly module: text or ids in, ids, text or integers out.
//
//   import { load } from "./bitnet.js";
//   const model = await load();
//   const { text } = await model.generate("What's the temp?", { maxTokens: 16 });
//
// Works in browsers, workers, Node and Deno; bitnet.d.ts has the types. The integers are those of every other machine.

/** The two texts that can be decoded at a time. */
const DECODED = 0;
const GENERATED = 1;
const INFO = ["vocabulary", "resultLength", "embeds", "window", "maxPositions", "position", "tokenizer", "modelBytes", "saturated"];
const NO_RESULT = 15; // BITNET_E_RESULT
const SELFTEST = 11; // BITNET_E_SELFTEST
const NO_TOKEN = 7; // BITNET_E_TOKEN
const MOST_TOP_K = 64;
const FRAME = 16; // milliseconds between two chances for the page to draw

/** An answer of the module that is not "ok": `status` is the number in bitnet_status.h. */
export class BitnetError extends Error {
  constructor(what, text, status) {
    super(`${what}: ${text}`);
    this.name = "BitnetError";
    this.status = status;
  }
}

/** Loads a model: an address (default: bitnet.wasm beside this file), a Response, the bytes, or a compiled module. */
export async function load(source = new URL("./bitnet.wasm", import.meta.url)) {
  const found = await source;
  const made = found instanceof WebAssembly.Module ? found : await WebAssembly.compile(await bytesOf(found));
  return new Model((await WebAssembly.instantiate(made, {})).exports);
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  if (typeof Response === "function" && source instanceof Response) return bytesOfResponse(source);
  const base = typeof document === "object" ? document.baseURI : import.meta.url;
  const url = new URL(source, base);
  if (url.protocol === "file:" && typeof process === "object") {
    const { readFile } = await import("node:fs/promises"); // fetch of Node knows no files
    return readFile(url);
  }
  return bytesOfResponse(await fetch(url));
}

async function bytesOfResponse(response) {
  if (!response.ok) throw new Error(`${response.url}: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

class Model {
  #e;
  #busy = false;

  constructor(exports) {
    this.#e = exports;
    this.#ok("open", exports.open());
    INFO.forEach((name, i) => {
      if (!["position", "saturated"].includes(name)) this[name] = exports.info(i) >>> 0;
    });
    this.embeds = this.embeds === 1;
    this.tokenizer = this.tokenizer === 1;
  }

  /** Tokens of the conversation so far. */
  get position() {
    return this.#e.info(INFO.indexOf("position")) >>> 0;
  }

  /** Values that reached the limit of 32 bits so far. */
  get saturated() {
    return this.#e.info(INFO.indexOf("saturated")) >>> 0;
  }

  /** Token ids of a text, with those that the model wants around it. */
  encode(text) {
    const e = this.#e;
    const bytes = new TextEncoder().encode(text);
    const before = (bytes.length + 3) & ~3;
    const capacity = e.id_room(bytes.length) >>> 0;
    if (capacity === 0) throw new RangeError(`a text of ${bytes.length} bytes is too long`);
    const at = this.#room(before + 4 * capacity);
    new Uint8Array(e.memory.buffer, at, bytes.length).set(bytes);
    const n = this.#count("encode", e.encode(at, bytes.length, at + before, capacity));
    return new Uint32Array(e.memory.buffer, at + before, n).slice();
  }

  /** Text of token ids; special tokens are left out. */
  decode(ids) {
    let text = "";
    this.#e.text(DECODED);
    for (const id of checked(ids)) text += this.#piece(DECODED, id);
    return text + this.#rest(DECODED);
  }

  /** Continues the conversation by these ids: the logits (times 65,536) after the last of them. */
  run(ids) {
    this.#free();
    this.#feed(ids);
    return this.#results();
  }

  /** The embedding of a text or of ids. */
  embed(input) {
    this.#free();
    const ids = typeof input === "string" ? this.encode(input) : checked(input);
    this.#ok("embed", this.#e.embed(this.#put(ids), ids.length));
    return this.#results();
  }

  /** Continues a prompt, from the start of a conversation. The page may draw in between. */
  async generate(prompt, options = {}) {
    const { maxTokens = 128, onToken, temperature = 0, topK = MOST_TOP_K, seed = 1, signal } = options;
    const thousandths = Math.round(temperature * 1000);
    const possible = thousandths >= 0 && thousandths <= 1e9 && (thousandths > 0 || temperature === 0);
    if (!possible) throw new RangeError(`temperature ${temperature}: from 0.001 to 1000000, or 0 for the most likely token`);
    if (!Number.isInteger(topK) || topK < 1 || topK > MOST_TOP_K) throw new RangeError(`topK ${topK}: from 1 to ${MOST_TOP_K}`);
    this.#free();
    this.#busy = true;
    try {
      const e = this.#e;
      const promptIds = typeof prompt === "string" ? this.encode(prompt) : checked(prompt);
      this.#ok("reset", e.reset());
      this.#ok("generate", e.sampling(thousandths, topK, seed >>> 0));
      this.#feed(promptIds);
      const ids = [];
      e.text(GENERATED);
      let text = "";
      let finished = false;
      let drawn = Date.now();
      while (ids.length < maxTokens) {
        signal?.throwIfAborted();
        const id = this.#count("generate", e.choose());
        if (e.ends(id) === 1) {
          finished = true;
          break;
        }
        ids.push(id);
        const piece = this.tokenizer ? this.#piece(GENERATED, id) : "";
        text += piece;
        onToken?.(piece, id);
        if (ids.length < maxTokens) this.#feed([id]);
        if (Date.now() - drawn >= FRAME) {
          await new Promise((resolve) => setTimeout(resolve, 0));
          drawn = Date.now();
        }
      }
      const rest = this.tokenizer ? this.#rest(GENERATED) : "";
      if (rest !== "") onToken?.(rest, ids[ids.length - 1]);
      return { text: text + rest, ids: Uint32Array.from(ids), promptIds: Uint32Array.from(promptIds), finished };
    } finally {
      this.#busy = false;
    }
  }

  /** Computes the golden prompts of the model and compares every checksum. Forgets the conversation. */
  selftest() {
    this.#free();
    const status = this.#e.selftest();
    if (status !== SELFTEST) {
      this.#ok("selftest", status);
      return { equal: true };
    }
    const [prompt, token, part] = [0, 1, 2].map((i) => this.#e.failure(i) >>> 0);
    return { equal: false, prompt, token, part };
  }

  /** Forgets the conversation. */
  reset() {
    this.#free();
    this.#ok("reset", this.#e.reset());
  }

  /** Runs a command of the example program (ports/bitnet_main.c), e.g. "trace" or "info". Forgets the conversation. */
  command(line) {
    this.#free();
    const e = this.#e;
    const bytes = new TextEncoder().encode(`${line}\0`);
    const at = this.#room(bytes.length);
    new Uint8Array(e.memory.buffer, at, bytes.length).set(bytes);
    const code = e.command(at);
    const output = new TextDecoder().decode(new Uint8Array(e.memory.buffer, e.output() >>> 0, e.output_bytes() >>> 0));
    this.#ok("open", e.open());
    return { code, output };
  }

  #free() {
    if (this.#busy) throw new Error("the model is generating: wait for it, or load another");
  }

  #ok(what, status) {
    if (status === 0) return;
    const bytes = new Uint8Array(this.#e.memory.buffer, this.#e.status_text(status) >>> 0);
    const text = new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
    throw new BitnetError(what, text, status);
  }

  /** A count, or an error. */
  #count(what, n) {
    if (n < 0) this.#ok(what, -n);
    return n;
  }

  #room(bytes) {
    const at = bytes < 2 ** 32 ? this.#e.room(bytes) >>> 0 : 0;
    if (at === 0) throw new RangeError(`the module cannot have ${bytes} bytes more of memory`);
    return at;
  }

  #put(ids) {
    const at = this.#room(4 * ids.length);
    new Uint32Array(this.#e.memory.buffer, at, ids.length).set(ids);
    return at;
  }

  #feed(ids) {
    const list = checked(ids);
    if (this.embeds) this.#ok("run", NO_RESULT);
    if (list.length === 0) throw new RangeError("run: no ids");
    this.#ok("run", this.#e.run(this.#put(list), list.length));
  }

  #results() {
    return new Int32Array(this.#e.memory.buffer, this.#e.results() >>> 0, this.resultLength).slice();
  }

  /** What a token adds to a text, in whole characters. An id that only the model's table has stands for no text. */
  #piece(which, id) {
    const room = this.#e.piece_room() >>> 0;
    const at = this.#room(room);
    const n = this.#e.piece(which, id, at, room);
    return this.#text(at, n === -NO_TOKEN && id < this.vocabulary ? 0 : this.#count("decode", n));
  }

  /** What is left of a character that never became whole. */
  #rest(which) {
    const room = this.#e.piece_room() >>> 0;
    const at = this.#room(room);
    return this.#text(at, this.#count("decode", this.#e.rest(which, at, room)));
  }

  #text(at, bytes) {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(this.#e.memory.buffer, at, bytes));
  }
}

/** Ids that are whole numbers; what the vocabulary lacks is the module's to refuse. */
function checked(ids) {
  const list = Array.from(ids);
  const wrong = list.find((id) => !Number.isInteger(id) || id < 0 || id >= 2 ** 32);
  if (wrong !== undefined) throw new TypeError(`${wrong} is no token id`);
  return list;
}
