//! Configurations and tokenizers that are damaged, contradict the weights or ask for the absurd. As in bad_checkpoints.rs: exit code 2, an error
//! that names the file, nothing left behind, no panic.

mod common;

use common::checkpoint::{assert_failure, Bench, Checkpoint, FFN, HIDDEN};
use common::{cases, finish, listing, tool, Rng};
use serde_json::{json, Value};
use std::process::Command;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";

/// The good checkpoint with one entry of the configuration changed; null removes it.
fn config(key: &str, value: Value) -> Bench {
    Bench::new(&Checkpoint::with(|c| c.config[key] = value))
}

// ---- the file ----

#[test]
fn config_missing() {
    let b = Bench::new(&Checkpoint::online());
    std::fs::remove_file(b.model().join(CONFIG)).unwrap();
    b.refused(&["there is no `config.json`", "hint: "]);
}

#[test]
fn config_is_no_json() {
    for text in
        ["", "{", "}", "{\"a\":}", "\u{0}\u{0}\u{0}", "hidden_size: 32", "{\"hidden_size\": 32,}", "{\"a\": NaN}"]
    {
        Bench::new(&Checkpoint::online()).file(CONFIG, text).refused(&["no valid JSON", CONFIG]);
    }
    Bench::new(&Checkpoint::online()).file(CONFIG, [b'{', 0xFF, 0xFE, b'}']).refused(&["no valid JSON", CONFIG]);
}

#[test]
fn config_is_no_object() {
    for text in ["[]", "null", "1", "\"x\""] {
        Bench::new(&Checkpoint::online()).file(CONFIG, text).refused(&["a JSON object is expected", CONFIG]);
    }
}

#[test]
fn config_nested_a_hundred_thousand_times() {
    for text in ["[".repeat(100_000), "{\"a\":".repeat(100_000), format!("{{\"a\":{}", "[".repeat(100_000))] {
        Bench::new(&Checkpoint::online()).file(CONFIG, text).refused(&["no valid JSON", CONFIG]);
    }
}

#[test]
fn config_larger_than_any_configuration() {
    let text = format!("{{\"x\":\"{}\"}}", " ".repeat(17 << 20));
    Bench::new(&Checkpoint::online()).file(CONFIG, text).refused(&["larger than", CONFIG]);
}

#[test]
fn config_is_a_folder() {
    let b = Bench::new(&Checkpoint::online());
    std::fs::remove_file(b.model().join(CONFIG)).unwrap();
    std::fs::create_dir(b.model().join(CONFIG)).unwrap();
    b.refused(&["there is no `config.json`"]);
}

#[test]
fn other_side_files_that_are_no_json() {
    for name in ["generation_config.json", "tokenizer_config.json", "model.safetensors.index.json"] {
        Bench::new(&Checkpoint::online()).file(name, "{").refused(&["no valid JSON", name]);
    }
}

// ---- what it asks for ----

#[test]
fn architecture_unknown() {
    for name in ["XLNetLMHeadModel", "LlamaForCausalLMEagle", "bitnetforcausallm", ""] {
        let b = config("architectures", json!([name]));
        b.refused(&["is not supported yet, supported are bitnet, llama", "whisper", name, CONFIG]);
    }
}

/// What is known but not read is refused with the reason, whatever else the configuration says.
#[test]
fn architectures_that_are_refused_by_name() {
    for (class, model_type, reason) in [
        ("MixtralForCausalLM", "mixtral", "mixture of experts"),
        ("Qwen3MoeForCausalLM", "qwen3_moe", "mixture of experts"),
        ("GptOssForCausalLM", "gpt_oss", "mixture of experts"),
        ("DeepseekV3ForCausalLM", "deepseek_v3", "mixture of experts"),
        ("Qwen3_5ForConditionalGeneration", "qwen3_5", "linear attention"),
        ("Qwen3NextForCausalLM", "qwen3_next", "linear attention"),
        ("HGRNBitForCausalLM", "", "recurrent"),
        ("HGRNBitForCausalLM", "hgrn_bit", "recurrent"),
        ("MambaForCausalLM", "mamba", "recurrent"),
        ("PrismHadamardForCausalLM", "prism_hadamard_qwen35", "rotated basis"),
        ("OLMoForCausalLM", "olmo", "OLMo-Bitnet"),
        ("MiniCPM3ForCausalLM", "minicpm3", "latent attention"),
        ("Gemma3nForConditionalGeneration", "gemma3n", "embeddings for each layer"),
        ("T5ForConditionalGeneration", "t5", "an encoder with a decoder"),
        ("LlamaForSequenceClassification", "llama", "classes"),
    ] {
        let set = |c: &mut Checkpoint| {
            c.config["architectures"] = json!([class]);
            c.config["model_type"] = json!(model_type);
        };
        Bench::new(&Checkpoint::with(set)).refused(&["is not supported", reason, CONFIG]);
    }
    config("num_local_experts", json!(8)).refused(&["`num_local_experts`", "mixture of experts", CONFIG]);
    config("num_experts", json!("many")).refused(&["`num_experts`", CONFIG]);
}

#[test]
fn architecture_not_given() {
    let c = Checkpoint::with(|c| (c.config["architectures"], c.config["model_type"]) = (Value::Null, Value::Null));
    Bench::new(&c).refused(&["neither `architectures` nor `model_type`", "supported are", CONFIG]);
}

#[test]
fn sizes_missing() {
    for key in ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"] {
        config(key, Value::Null).refused(&[&format!("`{key}` is missing"), CONFIG]);
    }
}

#[test]
fn sizes_that_are_no_sizes() {
    for key in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    ] {
        for value in [json!(0), json!(-1), json!(1.5), json!(1e30), json!("32"), json!([32]), json!(true), json!({})] {
            config(key, value).refused(&[&format!("`{key}` is"), "a whole number from", CONFIG]);
        }
    }
}

#[test]
fn heads_that_do_not_divide() {
    config("num_attention_heads", json!(3)).refused(&["no multiple of 3 heads", CONFIG]);
    let kv =
        |c: &mut Checkpoint| (c.config["num_attention_heads"], c.config["num_key_value_heads"]) = (json!(4), json!(3));
    Bench::new(&Checkpoint::with(kv))
        .refused(&["num_attention_heads 4 is no multiple of num_key_value_heads 3", CONFIG]);
    config("num_key_value_heads", json!(4)).refused(&["no multiple of num_key_value_heads 4", CONFIG]);
    config("head_dim", json!(15)).refused(&["head_dim must be even", CONFIG]);
    config("num_attention_heads", json!(HIDDEN)).refused(&["head_dim must be even|1", CONFIG][1..]);
}

/// Sizes beyond every limit, and sizes that are each allowed but do not belong to the weights: refused before memory is taken.
#[test]
fn absurd_sizes_in_two_gigabytes() {
    let billion = json!(1_000_000_000);
    let mut edits: Vec<Vec<(&str, Value)>> =
        ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim"]
            .map(|key| vec![(key, billion.clone())])
            .to_vec();
    edits.push(vec![
        ("vocab_size", json!(1 << 20)),
        ("hidden_size", json!(1 << 15)),
        ("num_attention_heads", json!(128)),
    ]);
    edits.push(vec![("intermediate_size", json!(1 << 15)), ("num_hidden_layers", json!(1024))]);
    edits.push(vec![("num_hidden_layers", json!(1024)), ("max_position_embeddings", json!(1 << 24))]);
    edits.push(vec![("max_position_embeddings", billion)]);
    for edit in edits {
        let b = Bench::new(&Checkpoint::with(|c| edit.iter().for_each(|(k, v)| c.config[*k] = v.clone())));
        let mut c = Command::new("sh");
        c.args([
            "-c",
            "ulimit -v 2000000 && exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_bitnet-convert"),
            "export",
            "--model",
        ]);
        let run = finish(c.arg(b.model()).arg("-o").arg(b.output()));
        assert_failure(&run, &["/model/"]);
        assert!(listing(&b.out()).is_empty());
    }
}

/// A context that the model never uses costs nothing: the cache grows with the tokens.
#[test]
fn a_long_context_takes_no_memory() {
    let b = config("max_position_embeddings", json!(1 << 24));
    b.export(&[]).ok();
    let plan = tool("export --dry-run --json --model {}", &[&b.model()]).ok().json();
    assert!(plan["plan"]["arena_bytes"].as_u64().unwrap() > 10 << 20);
}

#[test]
fn numbers_out_of_range() {
    for (key, value) in [
        ("rms_norm_eps", json!(0)),
        ("rms_norm_eps", json!(-1e-5)),
        ("rms_norm_eps", json!(1e9)),
        ("rms_norm_eps", json!("1e-5")),
        ("rope_theta", json!(0)),
        ("rope_theta", json!(-1)),
        ("rope_theta", json!(1e300)),
        ("rope_theta", json!(null)),
    ] {
        let b = config(key, value.clone());
        if value.is_null() {
            b.export(&[]).ok();
        } else {
            b.refused(&[key, CONFIG]);
        }
    }
}

#[test]
fn variants_that_are_not_supported() {
    for (key, value, reason) in [
        ("hidden_act", json!("quick_gelu"), "supported are relu, relu2, silu"),
        ("hidden_act", json!(1), "`hidden_act`"),
        ("attention_bias", json!(true), "q_proj.bias"),
        ("mlp_bias", json!(true), "gate_proj.bias"),
        ("attention_bias", json!("yes"), "true or false is expected"),
        ("quantization_config", json!({"quant_method": "gptq"}), "not binary or ternary"),
        ("quantization_config", json!({"bits": 4}), "quant_method"),
        (
            "quantization_config",
            json!({"quant_method": "bitnet", "quantization_mode": "later"}),
            "`offline` or `online`",
        ),
        (
            "quantization_config",
            json!({"quant_method": "bitnet", "linear_class": "x", "quantization_mode": "online"}),
            "linear_class",
        ),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": -4}), "factor"),
        ("rope_scaling", json!({"rope_type": "spiral"}), "supported are default, linear"),
        ("rope_scaling", json!({"rope_type": "linear"}), "factor"),
        ("rope_scaling", json!({"rope_type": "linear", "factor": -1}), "factor"),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8}), "low_freq_factor"),
        ("partial_rotary_factor", json!(1.5), "partial_rotary_factor"),
        ("partial_rotary_factor", json!(0.05), "an even number"),
        ("qat_config", json!({"scheme": {"weight": "w3"}}), "qat_config.scheme.weight"),
        ("qat_config", json!({}), "qat_config.scheme.weight"),
    ] {
        config(key, value).refused(&[reason, CONFIG]);
    }
}

#[test]
fn token_ids_beyond_the_vocabulary() {
    for (key, value) in [
        ("eos_token_id", json!(64)),
        ("eos_token_id", json!([1, 64])),
        ("eos_token_id", json!(-1)),
        ("bos_token_id", json!(4_294_967_296u64)),
        ("eos_token_id", json!("</s>")),
        ("eos_token_id", json!([1, 2, 3, 4, 5])),
    ] {
        config(key, value).refused(&[CONFIG]);
    }
}

#[test]
fn a_configuration_of_another_size_than_the_weights() {
    config("hidden_size", json!(HIDDEN * 2)).refused(&[
        "has shape",
        "the configuration asks for",
        "model.safetensors",
        "hint: ",
    ]);
    config("intermediate_size", json!(FFN + 1)).refused(&["has shape", "model.safetensors"]);
    config("vocab_size", json!(63)).refused(&["has shape", "model.safetensors"]);
}

/// Every entry replaced by every kind of value: an answer always, a panic never, and if it is yes the file is good.
#[test]
fn random_configurations() {
    let values = [
        json!(null),
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(64),
        json!(1e300),
        json!(0.5),
        json!("x"),
        json!([]),
        json!({}),
        json!(true),
        json!([null]),
    ];
    let keys: Vec<String> = Checkpoint::online().config.as_object().unwrap().keys().cloned().collect();
    let mut rng = Rng(9);
    for _ in 0..cases(60) {
        let mut edits = Vec::new();
        let c = Checkpoint::with(|c| {
            for _ in 0..1 + rng.below(2) {
                let (key, value) = (&keys[rng.below(keys.len())], &values[rng.below(values.len())]);
                c.config[key] = value.clone();
                edits.push(format!("{key} = {value}"));
            }
        });
        let b = Bench::new(&c);
        let run = b.export(&[]).never_panicked();
        match run.code {
            Some(0) => drop(tool("inspect {}", &[&b.output()]).ok()),
            Some(2) => assert_failure(&run, &[]),
            _ => panic!("{edits:?}: {run:?}"),
        }
    }
}

// ---- flags that contradict the model ----

#[test]
fn flags_that_make_no_sense() {
    let b = Bench::new(&Checkpoint::online());
    for (flags, reason) in [
        ("--kv-window 0", "a window of 0 slots"),
        ("--kv-window 131073", "a window of 131073 slots"),
        ("--kv-window 18446744073709551615", "a window of"),
        ("--kv-window 4 --kv-sinks 4", "4 sinks"),
        ("--kv-window -1", "unexpected argument '-1'"),
        ("--weight-scales 48", "multiple of 32"),
        ("--weight-scales 0", "multiple of 32"),
        ("--weight-scales row", "leave `--weight-scales` out"),
        ("--kv-bits 5", "possible values"),
        ("--embedding-bits 3", "possible values"),
        ("--quantize-weight 2", "possible values"),
        ("--quantize-activation 3", "possible values"),
        ("--format c", "needs a board or another processor"),
        ("--calibrate /no/such/file", "/no/such/file"),
    ] {
        let flags: Vec<&str> = flags.split(' ').collect();
        b.refused_with(&flags, &[reason]);
    }
}

// ---- tokenizers ----

/// Words w0 … w63 and an unknown one; what the export's own texts become does not matter.
fn words(first: u32) -> Value {
    let vocab: serde_json::Map<_, _> =
        (0..64).map(|i| (if i == 0 { "?".into() } else { format!("w{i}") }, json!(first + i))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": null, "decoder": null, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "?"},
    })
}

fn tokenizer(edit: impl FnOnce(&mut Value)) -> Bench {
    let mut t = words(0);
    edit(&mut t);
    Bench::new(&Checkpoint::online()).file(TOKENIZER, t.to_string())
}

#[test]
fn a_good_tokenizer_is_taken() {
    tokenizer(|_| {}).export(&[]).ok();
}

#[test]
fn tokenizer_is_no_tokenizer() {
    for text in ["", "{", "{}", "null", "[]", "\u{0}", "{\"model\":{\"type\":\"None\"}}"] {
        Bench::new(&Checkpoint::online()).file(TOKENIZER, text).refused(&["the tokenizer cannot be read", TOKENIZER]);
    }
    let deep = format!("{{\"normalizer\":{}", "{\"type\":\"Sequence\",\"normalizers\":[".repeat(100_000));
    Bench::new(&Checkpoint::online()).file(TOKENIZER, deep).refused(&["the tokenizer cannot be read", TOKENIZER]);
}

#[test]
fn tokenizer_of_another_vocabulary() {
    let b = Bench::new(&Checkpoint::online()).file(TOKENIZER, words(5000).to_string());
    b.refused(&["gives id 5000, the model has 64 entries", "belongs to another model", TOKENIZER]);
}

/// What the reference library answers with a panic is an error about the file all the same.
#[test]
fn tokenizers_that_contradict_themselves() {
    let template = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "nope", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {}});
    tokenizer(|t| t["post_processor"] = template).refused(&["tokenize", TOKENIZER]);
    tokenizer(|t| t["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0})).refused(&["tokenize", TOKENIZER]);
    tokenizer(|t| t["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}))
        .refused(&["tokenizer", TOKENIZER]);
    tokenizer(|t| t["model"]["unk_token"] = json!("gone")).refused(&["tokenize", TOKENIZER]);
    tokenizer(|t| {
        t["pre_tokenizer"] =
            json!({"type": "Split", "pattern": {"Regex": "((("}, "behavior": "Isolated", "invert": false})
    })
    .refused(&["the tokenizer cannot be read", TOKENIZER]);
}

/// Settings of training in the file must not cut or pad prompts, nor make them differ from run to run.
#[test]
fn truncation_and_padding_of_a_tokenizer_are_not_applied() {
    let truncated = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 9});
    let padded = |n: u64| json!({"strategy": {"Fixed": n}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "?"});
    for (key, value) in [("truncation", truncated), ("padding", padded(64)), ("padding", padded(1_000_000_000_000))] {
        let b = tokenizer(|t| t[key] = value);
        b.export(&[]).ok();
        let mut run = common::command();
        run.arg("run").arg(b.output()).args(["--prompt", "w1 w2 w3 w4 w5", "--max-new-tokens", "1", "--json"]);
        let ids = finish(&mut run).ok().json()["prompt_ids"].clone();
        assert_eq!(ids, json!([1, 2, 3, 4, 5]), "{key}");
    }
}

#[test]
fn dropout_in_a_tokenizer_does_not_make_exports_differ() {
    let source = std::fs::read(common::fixture("models/intent-w1a2/tokenizer.json")).unwrap();
    let mut t: Value = serde_json::from_slice(&source).unwrap();
    t["model"]["dropout"] = json!(0.5);
    let b = Bench::empty().file(TOKENIZER, t.to_string());
    for name in [CONFIG, "model.safetensors"] {
        std::fs::copy(common::fixture("models/intent-w1a2").join(name), b.model().join(name)).unwrap();
    }
    let bytes: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            b.export(&[]).ok();
            std::fs::read(b.output()).unwrap()
        })
        .collect();
    assert!(bytes[0] == bytes[1]);
}

/// A tokenizer may know more words than the model; a text that uses one is refused, wherever it comes in.
#[test]
fn a_text_with_a_word_beyond_the_vocabulary() {
    let b = tokenizer(|t| t["model"]["vocab"]["beyond"] = json!(64));
    b.export(&[]).ok();
    let text = b.out().join("text.txt");
    for (words, word) in [("w1 w2 beyond", "64"), ("beyond w1", "64"), ("w1 beyond", "64")] {
        std::fs::write(&text, words).unwrap();
        let run = tool("eval {} --text {}", &[&b.output(), &text]);
        assert_failure(&run, &[&format!("token id {word}"), "text.txt"]);
    }
    let mut run = common::command();
    assert_failure(&finish(run.arg("run").arg(b.output()).args(["--prompt", "w1 beyond"])), &["token id 64"]);
    std::fs::write(&text, "{\"prompt\": \"beyond\", \"expected\": \"w1\"}").unwrap();
    assert_failure(&tool("eval {} --tasks {}", &[&b.output(), &text]), &["token id 64"]);
}
