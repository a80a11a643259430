//! A server of files.

use crate::http::{Asked, Reply, Server};

pub type Files = Vec<(String, Vec<u8>)>;

/// `mischief` gets each request and the right answer to it.
pub fn bad_server(files: Files, mischief: impl Fn(&Asked, Reply) -> Reply + Send + Sync + 'static) -> Server {
    Server::new(move |asked| {
        let name = asked.path.split('?').next().unwrap_or("").trim_start_matches('/');
        let file = files.iter().find(|(n, _)| n == name);
        mischief(asked, file.map_or(Reply::new(404, "no such file"), |(_, data)| Reply::tagged_part(asked, data)))
    })
}

pub fn server_of(files: Files) -> Server {
    bad_server(files, |_, reply| reply)
}
