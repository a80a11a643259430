//! The model of this crate, on the machine that builds it: `cargo test`.

use bitnet_model::{generated, Config, Ctx, Model, SelftestError, Status};

#[test]
fn every_checksum_of_the_golden_trace_is_equal() {
    let model = Model::new(generated::IMAGE).expect("the model of the crate");
    assert_eq!(model.result_len(), generated::RESULTS);
    let mut arena = Box::new(generated::ModelArena::new());
    let mut ctx = Ctx::new(&model, Config::default(), arena.memory()).expect("a context");
    let mut results = vec![0; generated::RESULTS];
    match ctx.selftest(&mut results) {
        Ok(()) => {}
        Err(SelftestError::NotRun(Status::State)) => assert_eq!(model.golden_count(), 0),
        Err(e) => panic!("{e:?}"),
    }
}

#[test]
fn the_arena_is_as_large_as_the_model_needs() {
    let model = Model::new(generated::IMAGE).expect("the model of the crate");
    let size = model.arena(&Config::default()).expect("a size");
    let generated = (generated::ARENA_WORDS, generated::ARENA_HALVES, generated::ARENA_BYTES);
    assert_eq!((size.words, size.halves, size.bytes), generated);
}

#[test]
fn less_memory_is_refused() {
    let model = Model::new(generated::IMAGE).expect("the model of the crate");
    let mut arena = Box::new(generated::ModelArena::new());
    let mut memory = arena.memory();
    let most = memory.words.len() - 1;
    memory.words = &mut memory.words[..most];
    assert_eq!(Ctx::new(&model, Config::default(), memory).err(), Some(Status::Arena));
}

#[test]
fn damage_is_refused() {
    let step = (generated::IMAGE.len() / 61).max(1);
    for at in (0..generated::IMAGE.len()).step_by(step) {
        let mut bytes = generated::IMAGE.to_vec();
        bytes[at] ^= 1 << (at % 8);
        // The second digest of header and sections is for hosts; nothing depends on it here.
        if let Ok(m) = Model::new(&bytes) {
            assert!(m.result_len() > 0, "byte {at}");
        }
        assert!(Model::new(&bytes[..at]).is_err(), "cut at {at}");
    }
}
