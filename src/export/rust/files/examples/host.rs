//! The commands on a host: `cargo run --release --example host -- selftest`. With `--model FILE` another model than that of the crate is
//! opened, which may need `--features every-part`.

use bitnet_model::{commands, generated, Config, Memory, Model};
use std::io::Write;

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut model = generated::IMAGE.to_vec();
    if args.len() >= 2 && args[0] == "--model" {
        model = std::fs::read(&args[1]).unwrap_or_else(|e| {
            eprintln!("{}: {e}", args[1]);
            std::process::exit(2)
        });
        args.drain(..2);
    }
    // A model that cannot be opened gets no memory; the command says why.
    let opened = Model::new(&model);
    let size = opened.and_then(|m| m.arena(&Config::default())).unwrap_or_default();
    let (mut words, mut halves, mut bytes) = (vec![0; size.words], vec![0; size.halves], vec![0; size.bytes]);
    let mut results = vec![0; opened.map_or(0, |m| m.result_len())];
    let mut ids = vec![0; 65_536];
    let memory = Memory { words: &mut words, halves: &mut halves, bytes: &mut bytes };
    let scratch = opened.and_then(|m| m.tokenizer()).map_or(0, |t| t.work_words());
    let mut work = vec![0; scratch];
    let bench = commands::Bench { memory, results: &mut results, ids: &mut ids, work: &mut work };
    let mut out = std::io::stdout().lock();
    let code = commands::run(&args.join(" "), &model, bench, &mut |text| {
        // A closed pipe ends the program quietly.
        if out.write_all(text).is_err() {
            std::process::exit(0);
        }
    });
    std::process::exit(code);
}
