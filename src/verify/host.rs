//! Our own kernels as runners, and the trace that everybody is compared with.

use super::compare::part_name;
use super::{Outcome, PromptTrace};
use crate::error::Result;
use crate::kernels::dot::DotKernel;
use crate::runtime::{record, sample::argmax, Artifact, Bound};

/// Which part of the golden prompts is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// The first prompt only.
    pub one_prompt: bool,
    /// Tokens of each prompt; 0: all. An encoder always takes its whole text.
    pub tokens: usize,
}

/// Checksums of all golden prompts with one kernel of ours.
pub fn traces(artifact: &Artifact, kernel: DotKernel) -> Result<Vec<PromptTrace>> {
    traces_of(artifact, kernel, Extent::default())
}

/// Checksums of a part of the golden prompts. A prompt that is cut is run as if it had been stored so: its last token has logits.
pub fn traces_of(artifact: &Artifact, kernel: DotKernel, extent: Extent) -> Result<Vec<PromptTrace>> {
    let mut session = artifact.session(kernel);
    let most = if extent.tokens == 0 || artifact.program.encoder { usize::MAX } else { extent.tokens };
    let prompts = if extent.one_prompt { 1 } else { usize::MAX };
    let mut all = Vec::new();
    for g in artifact.golden.prompts.iter().take(prompts) {
        let (prompt, total) = (g.prompt_len.min(most), g.ids.len().min(most));
        let mut tokens: Vec<Vec<u32>> = vec![Vec::new(); total];
        let mut each = |pos: u32, _: usize, crc: u32| tokens[pos as usize].push(crc);
        let recorded = record(&mut session, &g.ids[..prompt], total, &mut each)?;
        all.push(PromptTrace { tokens, choices: recorded.ids[prompt..].to_vec() });
    }
    Ok(all)
}

/// The scalar kernels against what the artifact stored when it was made.
pub fn stored(artifact: &Artifact, reference: &[PromptTrace]) -> Outcome {
    let p = &artifact.program;
    for (i, (g, r)) in artifact.golden.prompts.iter().zip(reference).enumerate() {
        for (pos, (want, ops)) in g.checksums.iter().zip(&r.tokens).enumerate() {
            let mut chain = crate::runtime::Chain::new(p.layers);
            ops.iter().enumerate().for_each(|(n, crc)| chain.push(p.trace_slot(n), *crc));
            if let Some(part) = chain.finish().iter().zip(want).position(|(a, b)| a != b) {
                let at = format!("prompt {i}, token {pos}, {} from the golden trace", part_name(p, part));
                return Outcome::Differs { at };
            }
        }
        if g.ids[g.prompt_len..] != r.choices[..] {
            return Outcome::Differs { at: format!("prompt {i}: the greedy continuation from the golden trace") };
        }
    }
    Outcome::Equal
}

/// The stored prompts and their stored continuations, whatever would be chosen now, with the choices after each token: what programs for
/// other machines do.
///
/// # Errors
/// What the runtime says.
pub fn forced(
    artifact: &Artifact,
    adapter: Option<&Bound>,
    kernel: DotKernel,
    extent: Extent,
) -> Result<Vec<PromptTrace>> {
    let mut session = artifact.session(kernel);
    session.set_adapter(adapter);
    let most = if extent.tokens == 0 || artifact.program.encoder { usize::MAX } else { extent.tokens };
    let prompts = if extent.one_prompt { 1 } else { usize::MAX };
    let mut all = Vec::new();
    for g in artifact.golden.prompts.iter().take(prompts) {
        session.reset();
        let ids = &g.ids[..g.ids.len().min(most)];
        let (prompt, rest) = ids.split_at(g.prompt_len.min(most));
        let mut tokens: Vec<Vec<u32>> = vec![Vec::new(); ids.len()];
        let mut choices = Vec::new();
        for part in std::iter::once(prompt).chain(rest.chunks(1)) {
            let mut sink = |pos: u32, _: usize, crc: u32| tokens[pos as usize].push(crc);
            choices.extend(session.run_traced(part, Some(&mut sink))?.map(|l| argmax(&l)));
        }
        // The choice after the last token is not part of a trace.
        choices.truncate(rest.len());
        all.push(PromptTrace { tokens, choices });
    }
    Ok(all)
}
