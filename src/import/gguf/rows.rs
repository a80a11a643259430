//! Orders of the rows of a stored matrix.

/// Where the rows of a checkpoint's tensor are in the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// Row r is row r.
    Stored,
    /// The halves of each head lie side by side: row `h*d + i*(d/2) + k` is stored row `h*d + 2*k + i`, for d = `head_dim`.
    Interleaved { head_dim: usize },
    /// All queries, all keys, all values, where the checkpoint has for each of `groups` key heads its `queries` query heads, its key head
    /// and its value head, `head_dim` rows each.
    Grouped { groups: usize, queries: usize, head_dim: usize },
    /// A run of rows that begins at `first`.
    Part { first: usize },
}

impl RowOrder {
    /// The stored row that holds row `r`. No overflow for rows within the tensor.
    pub fn stored(self, r: usize) -> usize {
        match self {
            RowOrder::Stored => r,
            RowOrder::Interleaved { head_dim: d } => {
                let (head, within, half) = (r / d * d, r % d, d / 2);
                head + 2 * (within % half) + within / half
            }
            RowOrder::Grouped { groups, queries, head_dim: d } => {
                let (group, slot, i) = (r / ((queries + 2) * d), r / d % (queries + 2), r % d);
                let head = match slot.checked_sub(queries) {
                    None => group * queries + slot,
                    Some(0) => groups * queries + group,
                    Some(_) => groups * (queries + 1) + group,
                };
                head * d + i
            }
            RowOrder::Part { first } => first + r,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_permutation(order: RowOrder, rows: usize) -> bool {
        let mut seen: Vec<usize> = (0..rows).map(|r| order.stored(r)).collect();
        seen.sort_unstable();
        seen == (0..rows).collect::<Vec<_>>()
    }

    #[test]
    fn halves_side_by_side() {
        let order = RowOrder::Interleaved { head_dim: 4 };
        assert_eq!((0..8).map(|r| order.stored(r)).collect::<Vec<_>>(), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert!(is_permutation(RowOrder::Interleaved { head_dim: 16 }, 48));
    }

    #[test]
    fn one_head_at_a_time() {
        // Two heads of one row: the checkpoint has q0 k0 v0 q1 k1 v1, the file q0 q1 k0 k1 v0 v1.
        let order = RowOrder::Grouped { groups: 2, queries: 1, head_dim: 1 };
        assert_eq!((0..6).map(|r| order.stored(r)).collect::<Vec<_>>(), [0, 2, 4, 1, 3, 5]);
        assert!(is_permutation(RowOrder::Grouped { groups: 3, queries: 4, head_dim: 5 }, 3 * 6 * 5));
        // One key head: both orders are the same.
        let one = RowOrder::Grouped { groups: 1, queries: 7, head_dim: 2 };
        assert!((0..18).all(|r| one.stored(r) == r));
    }
}
