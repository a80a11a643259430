//! How a missing tool is installed.

/// A sentence for the `packages` of a target file: words are packages of Debian and Ubuntu, `pip:NAME` is one of the Python index.
pub fn install(packages: &str) -> String {
    let (pip, apt): (Vec<&str>, Vec<&str>) = packages.split_whitespace().partition(|w| w.starts_with("pip:"));
    let mut ways = Vec::new();
    if !apt.is_empty() {
        ways.push(format!("`apt-get install {}`", apt.join(" ")));
    }
    if !pip.is_empty() {
        let names: Vec<&str> = pip.iter().map(|w| &w[4..]).collect();
        ways.push(format!("`pip install {}`", names.join(" ")));
    }
    ways.join(" and ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn says_how() {
        assert_eq!(super::install("a b"), "`apt-get install a b`");
        assert_eq!(super::install("python3 pip:x==1"), "`apt-get install python3` and `pip install x==1`");
    }
}
