//! LINEAR by tables: all 256 sums that a byte of weights can stand for, once for each group of codes, shared by every row. A table is an
//! array of 256 and the index a byte, so the compiler needs no bounds check where the time is spent.

use crate::generated::parts;
use crate::sums::Code;
use crate::tensor::{trit, Tensor, BINARY, PLANES4, TERNARY5};

/// An entry: a sum of eight codes of 7 bits, or of eight of 4 bits.
pub(crate) trait Entry: Copy + Into<i32> {
    fn of(sum: i32) -> Self;
}

impl Entry for i16 {
    #[inline(always)]
    fn of(sum: i32) -> i16 {
        sum as i16
    }
}

impl Entry for i8 {
    #[inline(always)]
    fn of(sum: i32) -> i8 {
        sum as i8
    }
}

/// Sums of all rows; `ready`: the tables are there. Returns whether they are now, for all columns.
pub(crate) fn sums<C: Code, T: Entry>(t: &Tensor, codes: &[C], memory: &mut [T], ready: bool, y: &mut [i32]) -> bool {
    let width = if t.kind == TERNARY5 { 5 } else { 8 };
    let groups = t.cols.div_ceil(width);
    let memory = memory.as_chunks_mut::<256>().0;
    let tile = memory.len().min(groups);
    if tile == 0 {
        return false;
    }
    let mut first = 0;
    while first < groups {
        let n = tile.min(groups - first);
        let tables = &mut memory[..n];
        if !ready || tile < groups {
            let mut parts = codes.chunks(width).skip(first);
            for table in tables.iter_mut() {
                let part = parts.next().unwrap_or(&[]);
                if parts::KIND_TERNARY5 && t.kind == TERNARY5 {
                    build_trits(part, table);
                } else {
                    build_bits(part, table);
                }
            }
        }
        add(t, tables, groups, first, y);
        first += n;
    }
    tile == groups
}

/// Adds (or, for the first tile, writes) what the groups from `first` on give.
fn add<T: Entry>(t: &Tensor, tables: &[[T; 256]], groups: usize, first: usize, y: &mut [i32]) {
    // Every bit set: the sum of the codes, counted against each binary weight.
    let total = match t.kind {
        BINARY => tables.iter().fold(0, |sum, table| sum + table[255].into()),
        _ => 0,
    };
    for (q, y) in y.chunks_mut(4).enumerate() {
        let quad = t.quad(4 * q);
        let part = |plane: usize| {
            let at = 4 * (plane * groups + first);
            four_rows(quad.get(at..).unwrap_or(&[]), tables)
        };
        let sums = match t.kind {
            BINARY => part(0).map(|s| 2 * s - total),
            PLANES4 if parts::KIND_PLANES4 => {
                let (a, b, c, d) = (part(0), part(1), part(2), part(3));
                [0, 1, 2, 3].map(|i| a[i] + 2 * b[i] + 4 * c[i] - 8 * d[i])
            }
            _ => part(0),
        };
        let before = |y: i32| if first == 0 { 0 } else { y };
        match y {
            [a, b, c, d] => {
                (*a, *b, *c, *d) =
                    (before(*a) + sums[0], before(*b) + sums[1], before(*c) + sums[2], before(*d) + sums[3])
            }
            fewer => fewer.iter_mut().zip(sums).for_each(|(y, s)| *y = before(*y) + s),
        }
    }
}

/// The entries that the bytes of four interleaved rows choose.
#[inline(always)]
fn four_rows<T: Entry>(bytes: &[u8], tables: &[[T; 256]]) -> [i32; 4] {
    let words = bytes.as_chunks::<4>().0;
    let words = &words[..words.len().min(tables.len())];
    let (eights, rest) = words.as_chunks::<8>();
    let (eight_tables, more) = tables.as_chunks::<8>();
    let mut sums = [0; 4];
    for (w, t) in eights.iter().zip(eight_tables) {
        eight_groups(w, t, &mut sums);
    }
    for (w, t) in rest.iter().zip(more) {
        look_up(&mut sums, w, t);
    }
    sums
}

#[inline(always)]
fn look_up<T: Entry>(sums: &mut [i32; 4], w: &[u8; 4], table: &[T; 256]) {
    sums[0] += table[usize::from(w[0])].into();
    sums[1] += table[usize::from(w[1])].into();
    sums[2] += table[usize::from(w[2])].into();
    sums[3] += table[usize::from(w[3])].into();
}

/// Straight code, and a function of its own: in a loop the compiler would count with an offset and add it to every address once more.
#[inline(never)]
fn eight_groups<T: Entry>(w: &[[u8; 4]; 8], t: &[[T; 256]; 8], sums: &mut [i32; 4]) {
    let mut s = *sums;
    look_up(&mut s, &w[0], &t[0]);
    look_up(&mut s, &w[1], &t[1]);
    look_up(&mut s, &w[2], &t[2]);
    look_up(&mut s, &w[3], &t[3]);
    look_up(&mut s, &w[4], &t[4]);
    look_up(&mut s, &w[5], &t[5]);
    look_up(&mut s, &w[6], &t[6]);
    look_up(&mut s, &w[7], &t[7]);
    *sums = s;
}

/// Sums of the codes whose bits are set.
fn build_bits<C: Code, T: Entry>(codes: &[C], table: &mut [T; 256]) {
    let code = |k: usize| codes.get(k).map_or(0, |c| (*c).into());
    let half = |first: usize| {
        let mut sums = [0i32; 16];
        for k in 0..4 {
            let x = code(first + k);
            for i in 0..1 << k {
                sums[(1 << k) + i] = sums[i] + x;
            }
        }
        sums
    };
    let (low, high) = (half(0), half(4));
    for (row, h) in table.as_chunks_mut::<16>().0.iter_mut().zip(high) {
        for (entry, l) in row.iter_mut().zip(low) {
            *entry = T::of(l + h);
        }
    }
}

/// Sums of the codes times the digits of a byte of five weights.
fn build_trits<C: Code, T: Entry>(codes: &[C], table: &mut [T; 256]) {
    let code = |k: usize| codes.get(k).map_or(0, |c| (*c).into());
    let mut low = [0i32; 28];
    for (i, sum) in low.iter_mut().enumerate().take(27) {
        *sum = (0..3).fold(0, |s, k| s + trit(i as u32, k) * code(k));
    }
    for (j, row) in table.as_chunks_mut::<28>().0.iter_mut().enumerate() {
        let high = (3..5).fold(0, |s, k| s + trit(28 * j as u32, k) * code(k));
        for (entry, l) in row.iter_mut().zip(low) {
            *entry = T::of(l + high);
        }
    }
}
