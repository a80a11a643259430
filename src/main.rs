use bitnet_convert::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let r = || -> Result<()> {
        let m = import::import(std::path::Path::new(&a[1]))?;
        let t = target::find("host")?;
        let mut o = lower::Options::default();
        for k in &a[3..] {
            if k == "e16" { o.embedding_bits = 16; }
            if k == "kv4" { o.kv_bits = 4; }
            if k == "kv8" { o.kv_bits = 8; }
        }
        let mut p = export::packed::prepare(export::packed::Request { model: &m, options: o, target: &t, calibration: None, tokenizer: None })?;
        let w = p.write(std::path::Path::new(&a[2]), &progress::Silent)?;
        println!("{} bytes F={} sat {}", w.bytes, w.residual_frac, w.saturated);
        let art = runtime::Artifact::open(std::path::Path::new(&a[2]))?;
        let g = format::safetensors::File::open(&std::path::Path::new(&a[1]).join("golden.safetensors"))?;
        let mut s = art.session(kernels::DotKernel::best());
        let (mut kl, mut n, mut same, mut worst) = (0.0, 0, 0, 0f64);
        let names: Vec<(String, String)> = g.names().filter(|n| n.starts_with("input_ids")).map(|n| (n.to_string(), n.replace("input_ids", "logits"))).collect();
        for (i, l) in names {
            let ids: Vec<u32> = g.get(&i).unwrap().data.chunks(8).map(|c| c[0] as u32 | (c[1] as u32) << 8 | (c[2] as u32) << 16).collect();
            let want = g.get(&l).unwrap().to_f32()?;
            s.reset();
            for (t, id) in ids.iter().enumerate() {
                let got = s.run(&[*id])?.unwrap();
                let v = got.len();
                let w = &want[t * v..(t + 1) * v];
                let lse = |x: &[f64]| { let m = x.iter().cloned().fold(f64::MIN, f64::max); m + x.iter().map(|v| (v - m).exp()).sum::<f64>().ln() };
                let gf: Vec<f64> = got.iter().map(|x| *x as f64 / 65536.0).collect();
                let wf: Vec<f64> = w.iter().map(|x| *x as f64).collect();
                let (lg, lw) = (lse(&gf), lse(&wf));
                kl += wf.iter().zip(&gf).map(|(w, g)| (w - lw).exp() * ((w - lw) - (g - lg))).sum::<f64>();
                worst = gf.iter().zip(&wf).fold(worst, |m, (a, b)| m.max((a - b).abs()));
                let am = |x: &[f64]| (0..x.len()).max_by(|a, b| x[*a].partial_cmp(&x[*b]).unwrap()).unwrap();
                same += (am(&gf) == am(&wf)) as usize;
                n += 1;
            }
        }
        println!("mean KL {:.3e}  same argmax {same}/{n}  worst {worst:.4}", kl / n as f64);
        Ok(())
    };
    if let Err(e) = r() { println!("error: {e}\nhint: {:?}", e.next_step()); }
}
