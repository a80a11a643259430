//! The C runtime on this machine, with address and undefined-behaviour sanitizers.

use super::folder::Folder;
use super::parse::{parse, Said};
use super::process::run;
use super::{tools, Failure, Ran, Subject, RUN_LIMIT};
use crate::error::Result;
use std::process::Command;

pub fn run_here(s: &Subject) -> Result<Ran> {
    let detail = "C99 on this machine, address and undefined-behaviour sanitizers".to_string();
    Ok(Ran { detail, ..Ran::new("-", s.extent(0), traces(s)?) })
}

fn traces(s: &Subject) -> Result<Result<Said, Failure>> {
    let folder = Folder::of_host(s.exported())?;
    Ok(tools::need(&[("make", "make"), ("cc", "gcc libc6-dev")]).and_then(|()| {
        let built = folder.make(&["host"])?;
        if !built.status.success() {
            return Err(Failure::Broke(format!("it does not build\n{}", built.tail())));
        }
        let mut command = Command::new(folder.build.join("bitnet_host"));
        command.arg(&s.model);
        if let Some(a) = &s.adapter {
            command.arg(format!("adapter={}", a.file.display()));
        }
        command.args(s.trace_command(0).split(' '));
        let output = run(&mut command, RUN_LIMIT).map_err(|e| Failure::Broke(e.message().to_string()))?;
        parse(&output)
    }))
}
