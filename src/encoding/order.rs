//! How the rows of a matrix lie in memory: docs/format/packed.md, "Orders".

use super::lowbit::Encoding;

/// Order of the bytes of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Row after row.
    #[default]
    Rows,
    /// Four rows a byte at a time: a kernel that looks up a byte of each of four rows reads one word.
    Quads,
}

impl Order {
    /// Rows with those that fill the last quad.
    pub fn stored_rows(self, rows: usize) -> usize {
        match self {
            Order::Rows => rows,
            Order::Quads => rows.next_multiple_of(4),
        }
    }
}

/// Lays up to four rows of `stride` bytes each into a quad; rows that are not there are zeros.
pub fn join(rows: &[u8], stride: usize, quad: &mut [u8]) {
    for (r, row) in rows.chunks_exact(stride.max(1)).enumerate() {
        for (at, b) in quad.iter_mut().skip(r).step_by(4).zip(row) {
            *at = *b;
        }
    }
}

/// Row `r` of a matrix as its bytes in a row; `scratch` has as many as a row takes and is used where the row is in pieces.
pub fn row<'a>(data: &'a [u8], order: Order, r: usize, scratch: &'a mut [u8]) -> &'a [u8] {
    let stride = scratch.len();
    if order == Order::Rows {
        return &data[r * stride..(r + 1) * stride];
    }
    let quad = &data[r / 4 * 4 * stride..];
    for (to, from) in scratch.iter_mut().zip(quad.iter().skip(r % 4).step_by(4)) {
        *to = *from;
    }
    scratch
}

/// The weights of a matrix in the encoding and order that the host's kernels read; None if they are so already.
pub fn for_host(enc: Encoding, order: Order, data: &[u8], rows: usize, cols: usize) -> Option<Vec<u8>> {
    let to = enc.on_host();
    if (to, Order::Rows) == (enc, order) {
        return None;
    }
    let stride = to.stride(cols);
    let mut out = vec![0; rows * stride];
    let (mut scratch, mut codes) = (vec![0; enc.stride_in(order, cols)], vec![0; cols]);
    for (r, packed) in out.chunks_exact_mut(stride).enumerate() {
        let row = row(data, order, r, &mut scratch);
        codes.iter_mut().enumerate().for_each(|(i, c)| *c = enc.get(row, cols, i));
        to.pack_row(&codes, packed);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_rows_become_words() {
        let mut quad = [0; 8];
        join(&[1, 2, 3, 4, 5, 6], 2, &mut quad);
        assert_eq!(quad, [1, 3, 5, 0, 2, 4, 6, 0]);
        let mut scratch = [0; 2];
        assert_eq!(row(&quad, Order::Quads, 1, &mut scratch), [3, 4]);
        assert_eq!(row(&[1, 2, 3, 4], Order::Rows, 1, &mut [0; 2]), [3, 4]);
    }

    #[test]
    fn the_host_reads_the_same_weights() {
        use Encoding::*;
        let cases = [(Binary1, Order::Quads), (Ternary5, Order::Rows), (Ternary5, Order::Quads), (Int4, Order::Rows)];
        for (enc, order) in cases.into_iter().chain([(Planes4, Order::Quads)]) {
            for (rows, cols) in [(1usize, 1usize), (3, 5), (4, 8), (5, 33), (9, 40), (6, 71)] {
                let code = |r: usize, c: usize| match enc {
                    Binary1 => ((r * 31 + c * 7) % 3 % 2) as i32 * 2 - 1,
                    Ternary5 => ((r * 5 + c * 7) % 3) as i32 - 1,
                    _ => ((r * 5 + c * 7) % 16) as i32 - 8,
                };
                let stride = enc.stride_in(order, cols);
                let mut flat = vec![0; rows * stride];
                for (r, row) in flat.chunks_exact_mut(stride).enumerate() {
                    enc.pack_row(&(0..cols).map(|c| code(r, c)).collect::<Vec<_>>(), row);
                }
                let mut data = vec![0; enc.data_bytes(order, rows, cols) as usize];
                if order == Order::Quads {
                    let parts = data.chunks_exact_mut(4 * stride).zip(flat.chunks(4 * stride));
                    parts.for_each(|(quad, rows)| join(rows, stride, quad));
                } else {
                    data.copy_from_slice(&flat);
                }
                let turned = for_host(enc, order, &data, rows, cols).expect("another form");
                let (to, row) = (enc.on_host(), enc.on_host().stride(cols));
                for r in 0..rows {
                    for c in 0..cols {
                        assert_eq!(to.get(&turned[r * row..][..row], cols, c), code(r, c), "{enc:?} {order:?} {r} {c}");
                    }
                }
            }
        }
        assert!(for_host(Int8, Order::Rows, &[0; 4], 1, 1).is_none());
    }
}
