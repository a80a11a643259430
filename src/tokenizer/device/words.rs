//! Where a piece is cut into words.
