//! Ids to text.
