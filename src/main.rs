fn main() {
    use bitnet_convert::kernels::DotKernel;
    let a = bitnet_convert::runtime::Artifact::open(std::path::Path::new(&std::env::args().nth(1).unwrap())).unwrap();
    for kernel in DotKernel::available() {
        let mut s = a.session(kernel);
        for g in &a.golden.prompts {
            let r = bitnet_convert::runtime::record(&mut s, &g.ids[..g.prompt_len], g.ids.len(), &mut |_, _, _| {}).unwrap();
            println!("{} {}", kernel.name(), if r == *g { "equal" } else { "DIFFERENT" });
        }
    }
}
