//! Vectors of texts, and how near they are to each other.

use super::Printer;
use crate::error::Result;
use serde::Serialize;

#[derive(Serialize)]
pub struct Embedding {
    pub text: String,
    pub input_ids: Vec<u32>,
    pub embedding: Vec<f32>,
}

#[derive(Serialize)]
struct Output {
    dimensions: usize,
    embeddings: Vec<Embedding>,
    /// Cosine of the angle between each two vectors.
    cosine: Vec<Vec<f64>>,
}

/// Prints the vectors, and how near they are to each other.
pub fn print(embeddings: Vec<Embedding>, printer: &Printer) -> Result<u8> {
    let of = |a: &Embedding| embeddings.iter().map(|b| cosine(&a.embedding, &b.embedding)).collect();
    let output = Output {
        dimensions: embeddings.first().map_or(0, |e| e.embedding.len()),
        cosine: embeddings.iter().map(of).collect(),
        embeddings,
    };
    printer.result(&output, |out| {
        for e in &output.embeddings {
            writeln!(out, "# {:?}: {} tokens, {} values", e.text, e.input_ids.len(), e.embedding.len())?;
            let list: Vec<String> = e.embedding.iter().map(f32::to_string).collect();
            writeln!(out, "{}", list.join(" "))?;
        }
        if output.embeddings.len() > 1 {
            writeln!(out, "# cosine")?;
            for (row, e) in output.cosine.iter().zip(&output.embeddings) {
                let list: Vec<String> = row.iter().map(|c| format!("{c:7.4}")).collect();
                writeln!(out, "{}  {:?}", list.join(" "), e.text)?;
            }
        }
        Ok(())
    })?;
    Ok(0)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-24)
}

#[cfg(test)]
mod tests {
    #[test]
    fn cosines() {
        assert_eq!(super::cosine(&[3.0, 4.0], &[6.0, 8.0]), 1.0);
        assert_eq!(super::cosine(&[1.0, 0.0], &[0.0, 5.0]), 0.0);
        assert_eq!(super::cosine(&[0.0, 0.0], &[1.0, 1.0]), 0.0);
    }
}
