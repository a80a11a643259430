//! Updates in place that a failing disk cut, then the same command again.

use super::watched::Watched;
use super::*;
use bitnet_convert::delta::apply::{Options as Applying, Patch, Site};
use std::cell::Cell;
use std::io;

/// Works for so many operations that change something, then no more; of writes a part may be there.
fn failing(steps: usize) -> Watched {
    let left = Cell::new(steps);
    Watched::new(move |_| {
        let n = left.get();
        left.set(n.saturating_sub(1));
        match n {
            0 => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    })
    .in_halves()
}

/// Leaves the model as a cut after `steps` operations does; whether it was cut at all.
fn cut(place: &Place, steps: usize) -> bool {
    fs::write(place.file(".download"), one()).unwrap();
    let note = serde_json::json!({
        "format": 1, "url": place.options.url, "etag": null, "length": one().len(), "verified": one().len()
    });
    fs::write(place.file(".download.json"), note.to_string()).unwrap();
    let disk = failing(steps);
    let site = Site::lock(&disk, &place.options.model).unwrap();
    let patch = Patch::open(&disk, &place.file(".download")).unwrap();
    site.in_place(&patch, &Applying::default(), &Silent).is_err()
}

#[test]
fn an_update_in_place_that_was_cut_anywhere_is_finished_by_the_next_run() {
    let server = server_of(files(&[("p", one())]));
    let (mut n, mut torn) = (0, 0);
    loop {
        let mut place = Place::new(&server.url("/p"));
        place.options.in_place = true;
        let was_cut = cut(&place, n);
        torn += usize::from(place.file(".journal").exists());
        place.run().unwrap_or_else(|e| panic!("cut after {n}: {e}"));
        place.is(2);
        place.is_tidy();
        assert!(!place.file(".journal").exists(), "cut after {n}");
        if !was_cut {
            break;
        }
        n += 1;
    }
    assert!(n > 10 && torn > 5, "{n} cuts, {torn} in the middle");
    assert!(server.asked("/p").len() <= 2 * n, "what was whole is not fetched again");
}

/// A place whose model is neither version, and whose patch is lost.
fn torn(url: &str) -> Place {
    (0..)
        .find_map(|n| {
            let place = Place::new(url);
            assert!(cut(&place, n), "no cut leaves a journal");
            let torn = place.file(".journal").exists() && fs::read(&place.options.model).unwrap() != version(1);
            fs::remove_file(place.file(".download")).unwrap();
            torn.then_some(place)
        })
        .unwrap()
}

#[test]
fn a_torn_file_whose_patch_is_lost_is_repaired() {
    // By the same patch again.
    let server = server_of(files(&[("p", one()), ("other", patch(3, 4).bytes())]));
    let mut place = torn(&server.url("/other"));
    assert_eq!(place.run().unwrap_err().kind(), Kind::Usage);
    place.options.url = server.url("/p");
    place.updates();
    place.is(2);
    // By the full patch of an index.
    let whole = full(3).bytes();
    let mut index: serde_json::Value =
        serde_json::from_slice(&indexes::index(&[1, 2, 3], &[(1, 2, one().len(), "p")])).unwrap();
    index["files"][2]["url"] = "full".into();
    index["files"][2]["bytes"] = whole.len().into();
    let server = server_of(files(&[("i", index.to_string().into_bytes()), ("full", whole)]));
    let place = torn(&server.url("/i"));
    place.updates();
    place.is(3);
    place.is_tidy();
    assert!(!place.file(".journal").exists());
}
