/** Types of bitnet.js. */

/** An answer of the module that is not "ok". */
export declare class BitnetError extends Error {
  /** The number in runtime/bitnet_status.h. */
  readonly status: number;
}

export interface GenerateOptions {
  /** Most tokens of the answer; default 128. */
  maxTokens?: number;
  /** Called for each token with the text that it completes (may be empty) and its id. */
  onToken?: (text: string, id: number) => void;
  /** In thousandths; 0, the default, takes the most likely token. */
  temperature?: number;
  /** Among how many of the most likely tokens to draw, 1 to 64; default 64. */
  topK?: number;
  /** Start of the integer generator: the same seed gives the same text on every machine; default 1. */
  seed?: number;
  /** Stops between two tokens; generate() then rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface Generated {
  text: string;
  ids: Uint32Array;
  promptIds: Uint32Array;
  /** Whether the model ended its answer itself. */
  finished: boolean;
}

/** `part`: 0 before the layers, 1 + l layer l, layers + 1 the head, layers + 2 the choice of the token. */
export type SelfTest = { equal: true } | { equal: false; prompt: number; token: number; part: number };

export interface Model {
  readonly vocabulary: number;
  /** Elements of the logits, or of the embedding. */
  readonly resultLength: number;
  /** True: the model gives embeddings, see embed(); false: it gives logits, see run() and generate(). */
  readonly embeds: boolean;
  /** Tokens that are seen at once. */
  readonly window: number;
  /** Tokens of one text or conversation at most; 0: no limit. */
  readonly maxPositions: number;
  readonly modelBytes: number;
  /** Whether there is a tokenizer; without one, give ids. */
  readonly tokenizer: boolean;
  /** Tokens of the conversation so far. */
  readonly position: number;
  /** Values that reached the limit of 32 bits so far. */
  readonly saturated: number;
  /** Ids of a text, with those that the model wants around it. */
  encode(text: string): Uint32Array;
  /** Text of ids; special tokens are left out. */
  decode(ids: Iterable<number>): string;
  /** Continues the conversation: the logits, times 65,536, after the last id. */
  run(ids: Iterable<number>): Int32Array;
  /** The embedding of a text or of ids: values times 2^30 if the model normalizes, else times 65,536. */
  embed(input: string | Iterable<number>): Int32Array;
  /** Continues a prompt, from the start of a conversation. One at a time. */
  generate(prompt: string | Iterable<number>, options?: GenerateOptions): Promise<Generated>;
  /** Computes the golden prompts of the model and compares every checksum. Forgets the conversation. */
  selftest(): SelfTest;
  /** Forgets the conversation. */
  reset(): void;
  /** Runs a command of ports/bitnet_main.c. Forgets the conversation. */
  command(line: string): { code: number; output: string };
}

/** Loads a model: an address (default: bitnet.wasm beside bitnet.js), a Response, the bytes, or a compiled module. */
export declare function load(
  source?: string | URL | Response | BufferSource | WebAssembly.Module | Promise<Response>,
): Promise<Model>;
