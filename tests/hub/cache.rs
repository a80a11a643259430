//! What lies on the disk, before and after.

use super::*;

#[test]
fn a_good_download_has_the_layout_of_other_clients() {
    let hub = hub_of(Repo::small());
    let place = Place::new(&hub.url(""));
    let snapshot = place.fetch("org/name").unwrap();
    is_good(&snapshot);
    assert_eq!(snapshot, place.repo().join("snapshots").join(COMMIT));
    assert_eq!(common::listing(&snapshot), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fs::read_to_string(place.repo().join("refs/main")).unwrap(), COMMIT);
    let mut digests = vec![sha256(&weights(1)), git_blob(b"{\"a\": 1}"), git_blob(b"{}")];
    digests.sort();
    assert_eq!(common::listing(&place.repo().join("blobs")), digests);
    let link = fs::read_link(snapshot.join("model.safetensors")).unwrap();
    assert_eq!(link, Path::new("../../blobs").join(sha256(&weights(1))));
    assert!(place.settings.cache.join(".locks/models--org--name").is_dir());
    // The second time only the listing is asked for.
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked("/resolve/").len(), 3);
    assert_eq!(hub.asked("GET /api/").len(), 4);
    assert!(hub.asked("xet-read-token").is_empty());
}

#[test]
fn offline_without_a_cache_names_the_variable() {
    for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let mut place = Place::new("http://127.0.0.1:1");
        place.settings.offline = Some(variable);
        place.refuses(&["`org/name` is not in the cache", variable]);
    }
}

#[test]
fn offline_with_a_cache_asks_nobody() {
    let hub = hub_of(Repo::small());
    let mut place = Place::new(&hub.url(""));
    place.fetch("org/name").unwrap();
    let before = hub.asked("").len();
    place.settings.offline = Some("HF_HUB_OFFLINE");
    is_good(&place.fetch("org/name").unwrap());
    is_good(&place.fetch(&format!("org/name@{COMMIT}")).unwrap());
    assert_eq!(hub.asked("").len(), before);
    place.settings.offline = None;
    drop(hub);
    // Not told to be offline, but without a hub: the same, and said.
    let found = obtain(&Id::parse("org/name").unwrap(), &place.settings, &Silent).unwrap();
    is_good(&found.path);
    assert!(found.warning.unwrap().contains("taken from the cache"));
}

#[test]
fn without_a_hub_and_a_cache_the_reason_is_the_connection() {
    let gone = hub_of(Repo::small()).url("");
    assert_eq!(Place::new(&gone).refuses(&["cannot fetch from", "HF_ENDPOINT"]).kind(), Kind::Io);
}

/// The folder as another client leaves it.
fn by_another_client(place: &Place, content: &[u8]) {
    let repo = place.repo();
    let snapshot = repo.join("snapshots").join(COMMIT);
    for dir in [repo.join("blobs"), repo.join("refs"), snapshot.clone()] {
        fs::create_dir_all(dir).unwrap();
    }
    for (name, data, etag) in [
        ("config.json", &b"{\"a\": 1}"[..], git_blob(b"{\"a\": 1}")),
        ("model.safetensors", content, sha256(&weights(1))),
    ] {
        fs::write(repo.join("blobs").join(&etag), data).unwrap();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(&etag), snapshot.join(name)).unwrap();
    }
    fs::write(repo.join("refs/main"), COMMIT).unwrap();
}

#[test]
fn what_another_client_fetched_is_used() {
    let hub = hub_of(Repo::small());
    let mut place = Place::new(&hub.url(""));
    by_another_client(&place, &weights(1));
    place.settings.offline = Some("HF_HUB_OFFLINE");
    is_good(&place.fetch("org/name").unwrap());
    assert!(hub.asked("").is_empty());
    place.settings.offline = None;
    is_good(&place.fetch("org/name").unwrap());
    assert_eq!(hub.asked("/resolve/").len(), 1, "only the tokenizer was missing");
}

#[test]
fn damage_in_the_cache_is_found_and_mended() {
    let mut damaged = weights(1);
    damaged[1234] ^= 1;
    let hub = hub_of(Repo::small());
    let mut place = Place::new(&hub.url(""));
    by_another_client(&place, &damaged);
    place.settings.offline = Some("HF_HUB_OFFLINE");
    place.refuses(&["`model.safetensors` of `org/name` is damaged", "HF_HUB_OFFLINE"]);
    place.settings.offline = None;
    is_good(&place.fetch("org/name").unwrap());
    fs::write(place.blob(&sha256(&weights(1))), b"shorter").unwrap();
    is_good(&place.fetch("org/name").unwrap());
}

#[test]
fn half_a_snapshot_is_no_model() {
    let mut place = Place::new("http://127.0.0.1:1");
    by_another_client(&place, &weights(1));
    fs::remove_file(place.blob(&sha256(&weights(1)))).unwrap();
    place.settings.offline = Some("HF_HUB_OFFLINE");
    place.refuses(&["only a part of `org/name`", "HF_HUB_OFFLINE"]);
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    let mut repo = Repo::small();
    repo.files.push(("1_Pooling/config.json".into(), b"{}".to_vec(), false));
    let hub = hub_of(repo);
    let place = Place::new(&hub.url(""));
    let outside = place.dir.path().join("outside");
    let snapshot = place.repo().join("snapshots").join(COMMIT);
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink(&outside, snapshot.join("1_Pooling")).unwrap();
    place.refuses(&["is a link"]);
    assert!(common::listing(&outside).is_empty());
}

#[test]
fn shards_come_by_their_index() {
    let index = r#"{"metadata":{"total_size":1},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
    let files = vec![
        ("config.json".to_string(), b"{}".to_vec(), false),
        ("m-1.safetensors".to_string(), weights(2), true),
        ("m-2.safetensors".to_string(), weights(3), true),
        ("m-3.safetensors".to_string(), weights(4), true),
        ("model.safetensors.index.json".to_string(), index.as_bytes().to_vec(), false),
    ];
    let hub = hub_of(Repo { files, ..Repo::small() });
    let mut place = Place::new(&hub.url(""));
    let bar = Counting::default();
    let snapshot = fetch(&Id::parse("org/name").unwrap(), &place.settings, &bar).unwrap();
    assert_eq!(fs::read(snapshot.join("m-2.safetensors")).unwrap(), weights(3));
    assert!(!snapshot.join("m-3.safetensors").exists());
    assert_eq!((bar.total.get(), bar.done.get()), (400_002 + index.len() as u64, 400_002 + index.len() as u64));
    place.settings.offline = Some("HF_HUB_OFFLINE");
    place.fetch("org/name").unwrap();
    fs::remove_file(snapshot.join("m-2.safetensors")).unwrap();
    place.refuses(&["only a part", "m-2.safetensors"]);
}

#[test]
fn one_gguf_is_taken_and_several_are_listed() {
    let one = vec![("sub/x.gguf".to_string(), b"GGUF".to_vec(), true)];
    let mut two = one.clone();
    two.push(("y.gguf".into(), b"GGUF2".to_vec(), true));
    let hub = hub_of(Repo { files: one, ..Repo::small() });
    let place = Place::new(&hub.url(""));
    let file = place.fetch("org/name").unwrap();
    assert!(file.ends_with("sub/x.gguf"), "{file:?}");
    let hub = hub_of(Repo { files: two, ..Repo::small() });
    let place = Place::new(&hub.url(""));
    place.refuses(&["2 GGUF files: `sub/x.gguf`, `y.gguf`", "name one of them: `org/name:sub/x.gguf`"]);
    let file = place.fetch("org/name@main:y.gguf").unwrap();
    assert_eq!((file.file_name().unwrap().to_str(), fs::read(&file).unwrap()), (Some("y.gguf"), b"GGUF2".to_vec()));
}

#[test]
fn two_at_the_same_time_fetch_once() {
    let hub = bad_store(1, |r| {
        std::thread::sleep(Duration::from_millis(100));
        r
    });
    let place = Place::new(&hub.url(""));
    std::thread::scope(|s| {
        let both = [0, 1].map(|_| s.spawn(|| place.fetch("org/name").unwrap()));
        both.into_iter().for_each(|t| is_good(&t.join().unwrap()));
    });
    assert_eq!(hub.asked(WEIGHTS).len(), 1);
}

#[test]
fn the_bar_counts_everything_once_also_what_is_there() {
    let hub = hub_of(Repo::small());
    let place = Place::new(&hub.url(""));
    for _ in 0..2 {
        let bar = Counting::default();
        fetch(&Id::parse("org/name").unwrap(), &place.settings, &bar).unwrap();
        assert_eq!((bar.stages.get(), bar.total.get(), bar.done.get()), (1, 200_010, 200_010));
    }
}

#[test]
fn the_program_fetches_a_model_and_finds_it_again() {
    let folder = common::fixture("models/intent-w1a2");
    let read = |n: String| fs::read(folder.join(&n)).map(|d| (n.clone(), d, n.ends_with(".safetensors"))).unwrap();
    let files = common::listing(&folder).into_iter().map(read).collect();
    let hub = hub_of(Repo { id: "org/intent".into(), files, ..Repo::small() });
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("m.bitnet");
    let run = |args: &[&str], offline: &str| {
        let mut c = common::command();
        for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"] {
            c.env_remove(name);
        }
        // Long time-outs, because the machine may be busy.
        c.env("HF_ENDPOINT", hub.url("")).env("HF_HOME", home.path()).env("HF_HUB_OFFLINE", offline);
        common::finish(c.current_dir(home.path()).args(args))
    };
    let by_hand = common::tool("inspect {} --json", &[&folder]).ok().json();
    let info = run(&["inspect", "org/intent", "--json"], "0").ok().json();
    assert_eq!(info["model"], "intent");
    assert_eq!((&info["layers"], &info["architecture"]), (&by_hand["layers"], &by_hand["architecture"]));
    assert!(hub.asked("golden.safetensors").iter().all(|a| a.path.starts_with("/api/")));
    let export = ["export", "--model", "org/intent", "--target", "host", "-o", out.to_str().unwrap()];
    run(&export, "1").ok();
    let local = home.path().join("local.bitnet");
    common::tool("export --model {} --target host -o {} --quiet", &[&folder, &local]).ok();
    let tensors = |p: &Path| common::tool("inspect {} --json", &[p]).ok().json()["tensors"].clone();
    assert_eq!(tensors(&out), tensors(&local));
    let refused = run(&["inspect", "org/other"], "1");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("HF_HUB_OFFLINE"), "{}", refused.stderr);
}
