//! Requests over http and https: redirects followed by hand, a token only to its own host, time-outs on everything, failures told apart.
//! What an answer means, and what is done with its bytes, is up to the rooms above.

mod answer;
mod client;
mod retry;
mod token;
mod url;

pub use answer::{wait_of, Answer, Part};
pub use client::{Ask, Client, Rules};
pub use retry::{Failure, Patience};
pub use token::Token;
pub use url::{encode, Url};
