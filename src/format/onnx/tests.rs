//! Files that others may send, byte by byte.

use super::{Elem, Loaded};
use crate::error::Kind;
use std::path::Path;

/// A field of bytes: tag, length, contents.
fn f(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    out.extend(length(contents.len()));
    out.extend(contents);
    out
}

/// The same for tags above 15.
fn f2(tag: u16, contents: &[u8]) -> Vec<u8> {
    let key = tag << 3 | 2;
    let mut out = vec![key as u8 | 0x80, (key >> 7) as u8];
    out.extend(length(contents.len()));
    out.extend(contents);
    out
}

fn length(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Version 7 and opset 13, then the given fields.
fn model(rest: &[u8]) -> Vec<u8> {
    join(&[b"\x08\x07\x42\x02\x10\x0d", rest])
}

/// An input or output of type int64 and shape [2].
fn port(name: &[u8]) -> Vec<u8> {
    join(&[&f(1, name), b"\x12\x0a\x0a\x08\x08\x07\x12\x04\x0a\x02\x08\x02"])
}

fn node(op: &[u8], inputs: &[&[u8]], outputs: &[&[u8]], rest: &[u8]) -> Vec<u8> {
    let mut n = Vec::new();
    inputs.iter().for_each(|i| n.extend(f(1, i)));
    outputs.iter().for_each(|o| n.extend(f(2, o)));
    join(&[&n, &f(4, op), rest])
}

/// A model with input `x`, output `y` and these nodes and initializers.
fn graph(nodes: &[&[u8]], tensors: &[&[u8]]) -> Vec<u8> {
    let mut g = Vec::new();
    nodes.iter().for_each(|n| g.extend(f(1, n)));
    tensors.iter().for_each(|t| g.extend(f(5, t)));
    model(&f(7, &join(&[&g, &f(11, &port(b"x")), &f(12, &port(b"y"))])))
}

fn neg() -> Vec<u8> {
    node(b"Neg", &[b"x"], &[b"y"], b"")
}

/// A model that needs the tensor `w`.
fn with(tensor: &[u8]) -> Vec<u8> {
    graph(&[&node(b"Add", &[b"x", b"w"], &[b"y"], b"")], &[tensor])
}

fn load(bytes: &[u8]) -> crate::Result<Loaded> {
    Loaded::from_bytes(bytes.to_vec(), Path::new("m.onnx"))
}

/// The model is refused as damaged, with these words.
fn damaged(bytes: &[u8], words: &str) {
    refused(bytes, Kind::Input, words);
}

fn unsupported(bytes: &[u8], words: &str) {
    refused(bytes, Kind::Unsupported, words);
}

fn refused(bytes: &[u8], kind: Kind, words: &str) {
    let e = load(bytes).err().expect("an error");
    assert!(e.to_string().contains(words), "{e}");
    assert_eq!(e.kind(), kind, "{e}");
}

#[test]
fn a_model_is_read() {
    let l = load(&with(b"\x08\x02\x10\x07\x3a\x02\x05\x09\x42\x01w")).unwrap();
    let t = &l.graph().unwrap().initializer[0];
    assert_eq!(l.tensor_bytes(t).unwrap()[..9], [5, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!((l.opset(""), l.opset("com.microsoft"), l.meta("a")), (Some(13), None, None));
    load(&graph(&[&neg()], &[])).unwrap();
}

#[test]
fn nothing_and_other_files() {
    damaged(b"", "there is no graph in it");
    damaged(b"GGUF\x03\0\0\0", "has a field");
    damaged(b"{\"a\": 1}", "group");
    damaged(&model(&f(7, b"")), "the graph has no outputs");
    damaged(&f(7, b""), "of which version its operators are");
}

#[test]
fn a_length_beyond_the_file() {
    damaged(b"\x3a\x7f\x0a", "the model has a field of 127 bytes where 1 are left");
    damaged(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a", "a field of 18446744073709551615 bytes");
}

#[test]
fn a_length_beyond_the_message_around_it() {
    // The graph has 2 bytes, the node in it claims 9; the bytes are there, but they are not the graph's.
    damaged(b"\x3a\x02\x0a\x09\x22\x07Neg....", "the graph has a field of 9 bytes where 0 are left");
}

#[test]
fn numbers_that_do_not_end() {
    damaged(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a number that does not end");
    damaged(b"\x08\xff", "a number that does not end");
    // Ten bytes, but more than 64 bits.
    damaged(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "a number that does not end");
    damaged(b"\x15\x01\x02", "ends within a number");
    // A list whose last number does not end.
    damaged(&with(b"\x08\x01\x10\x07\x3a\x02\x05\x89\x42\x01w"), "this is no ONNX model");
}

#[test]
fn field_number_zero() {
    damaged(b"\x00\x01", "whose number does not exist");
}

#[test]
fn groups_and_unknown_kinds() {
    damaged(b"\x3b\x3c", "has a group");
    damaged(b"\x3f", "unknown kind");
}

#[test]
fn a_field_of_another_kind_than_the_format_has() {
    // The name of the producer as a number.
    damaged(b"\x10\x07", "this is no ONNX model");
}

#[test]
fn a_name_that_is_no_text() {
    damaged(&model(&f(7, &f(2, b"\xff\xfe"))), "UTF-8");
}

#[test]
fn deep_nesting_is_not_followed() {
    // Graphs in attributes of nodes of graphs, from the innermost outwards.
    let mut inner = Vec::new();
    for _ in 0..10_000 {
        inner = f(1, &f(5, &f(6, &inner)));
    }
    unsupported(
        &graph(&[&node(b"If", &[b"x"], &[b"y"], &f(5, &join(&[&f(1, b"then"), &f(6, &inner)])))], &[]),
        "a graph of its own",
    );
}

#[test]
fn empty_things_without_end() {
    // 4 million nodes of two bytes each would be a gigabyte in memory.
    let nodes = b"\x0a\x00".repeat(4_000_000);
    damaged(&model(&f(7, &nodes)), "more empty things than its length allows");
    damaged(&model(&f(7, &f(1, &b"\x2a\x00".repeat(2_000_000)))), "more empty things");
}

#[test]
fn subgraphs_lists_of_tensors_and_references() {
    let with = |a: &[u8]| graph(&[&node(b"If", &[b"x"], &[b"y"], &f(5, &join(&[&f(1, b"a"), a])))], &[]);
    unsupported(&with(&f(6, b"")), "node 0 (If): its attribute `a` is a graph of its own");
    unsupported(&with(&f(11, b"")), "a graph of its own");
    unsupported(&with(&f(10, b"")), "a list of tensors");
    unsupported(&with(&f2(21, b"b")), "that of a function around it");
}

#[test]
fn functions_of_the_model() {
    unsupported(&join(&[&graph(&[&neg()], &[]), &f2(25, b"\x0a\x01f")]), "functions of its own");
}

#[test]
fn sparse_tensors() {
    unsupported(&model(&f(7, &join(&[&f(1, &neg()), &f(15, b"")]))), "sparse tensors");
}

#[test]
fn a_value_that_nothing_makes() {
    let n = node(b"Add", &[b"x", b"z"], &[b"y"], b"\x1a\x03sum");
    damaged(&graph(&[&n], &[]), "node `sum` (Add): it needs `z`, which nothing makes");
}

#[test]
fn a_cycle() {
    let nodes = [node(b"Add", &[b"x", b"b"], &[b"a"], b""), node(b"Neg", &[b"a"], &[b"b"], b""), neg()];
    damaged(
        &graph(&[&nodes[0], &nodes[1], &nodes[2]], &[]),
        "node 0 (Add): it needs `b`, which itself or a later node makes",
    );
    let own = node(b"Add", &[b"x", b"y"], &[b"y"], b"");
    damaged(&graph(&[&own], &[]), "a cycle");
}

#[test]
fn a_value_made_twice() {
    damaged(&graph(&[&neg(), &neg()], &[]), "node 1 (Neg): it makes `y`, which is made already");
    let onto_input = node(b"Neg", &[b"x"], &[b"x"], b"");
    damaged(&graph(&[&onto_input, &neg()], &[]), "it makes `x`, which is made already");
    let onto_both = node(b"Split", &[b"x"], &[b"y", b"y"], b"");
    damaged(&graph(&[&onto_both], &[]), "it makes `y`, which is made already");
}

#[test]
fn an_output_that_nothing_makes() {
    damaged(&graph(&[&node(b"Neg", &[b"x"], &[b"z"], b"")], &[]), "nothing makes the output `y`");
}

#[test]
fn names_of_inputs_outputs_and_tensors() {
    let g = |rest: &[u8]| model(&f(7, &join(&[&f(1, &neg()), &f(11, &port(b"x")), &f(12, &port(b"y")), rest])));
    damaged(&g(&f(11, &port(b"x"))), "two inputs are called `x`");
    damaged(&g(&f(12, &port(b"y"))), "two outputs are called `y`");
    damaged(&g(&f(11, &port(b""))), "an input has no name");
    let w = b"\x08\x00\x10\x07\x42\x01w";
    damaged(&graph(&[&neg()], &[w, w]), "two tensors have this name");
    damaged(&graph(&[&neg()], &[b"\x08\x00\x10\x07"]), "or it is empty");
}

#[test]
fn nodes_without_operator_or_output_and_attributes_of_one_name() {
    damaged(&graph(&[&node(b"", &[b"x"], &[b"y"], b"")], &[]), "it has no operator");
    damaged(&graph(&[&node(b"Neg", &[b"x"], &[b""], b"")], &[]), "it has no outputs");
    let twice = join(&[&f(5, b"\x0a\x01a\x18\x01"), &f(5, b"\x0a\x01a\x18\x02")]);
    damaged(&graph(&[&node(b"Neg", &[b"x"], &[b"y"], &twice)], &[]), "two attributes called `a`");
}

#[test]
fn types_that_are_no_tensors_or_unknown() {
    let g = |port: &[u8]| model(&f(7, &join(&[&f(1, &neg()), &f(11, port), &f(12, &b"\x0a\x01y"[..])])));
    unsupported(&g(b"\x0a\x01x\x12\x02\x22\x00"), "input `x`: it is no tensor");
    unsupported(&g(b"\x0a\x01x"), "it is no tensor");
    unsupported(&g(b"\x0a\x01x\x12\x04\x0a\x02\x08\x10"), "element type 16 (bfloat16)");
    let negative = b"\x0a\x01x\x12\x13\x0a\x11\x08\x07\x12\x0d\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    damaged(&g(negative), "a negative dimension");
    unsupported(&with(b"\x08\x02\x10\x08\x42\x01w"), "element type 8 (text)");
    unsupported(&with(b"\x08\x02\x10\x63\x42\x01w"), "element type 99 is not read");
    unsupported(&with(b"\x08\x02\x42\x01w"), "element type 0 (undefined)");
}

#[test]
fn elements_that_are_not_as_many_as_the_shape_says() {
    damaged(&with(b"\x08\x02\x10\x07\x3a\x01\x05\x42\x01w"), "1 numbers of 8 bytes, its type and shape need 16 bytes");
    damaged(&with(b"\x08\x02\x10\x07\x42\x01w"), "0 numbers of 8 bytes");
    damaged(&with(b"\x08\x02\x10\x07\x4a\x03abc\x42\x01w"), "3 bytes, its type and shape need 16");
    // Three elements of 4 bits are 2 bytes, five of 2 bits, too.
    load(&with(b"\x08\x03\x10\x16\x4a\x02ab\x42\x01w")).unwrap();
    load(&with(b"\x08\x05\x10\x1a\x4a\x02ab\x42\x01w")).unwrap();
    damaged(&with(b"\x08\x05\x10\x16\x4a\x02ab\x42\x01w"), "2 bytes, its type and shape need 3");
}

#[test]
fn elements_in_two_fields_or_a_wrong_one() {
    damaged(&with(b"\x08\x01\x10\x07\x3a\x01\x05\x4a\x01a\x42\x01w"), "in two fields");
    damaged(&with(b"\x08\x01\x10\x07\x2a\x01\x05\x42\x01w"), "in a field that is not for int64");
}

#[test]
fn numbers_beyond_their_type() {
    damaged(&with(b"\x08\x01\x10\x02\x2a\x02\x80\x02\x42\x01w"), "256 is no uint8");
    damaged(&with(b"\x08\x01\x10\x03\x2a\x02\x80\x01\x42\x01w"), "128 is no int8");
    damaged(&with(b"\x08\x01\x10\x09\x2a\x01\x02\x42\x01w"), "2 is no bool");
    damaged(&with(b"\x08\x01\x10\x0c\x5a\x05\x80\x80\x80\x80\x10\x42\x01w"), "4294967296 is no uint32");
}

#[test]
fn huge_and_negative_shapes() {
    let huge = b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x40\x08\x10\x10\x07\x42\x01w";
    damaged(&with(huge), "more elements than anything can hold");
    // A zero does not hide the others.
    damaged(&with(&join(&[b"\x08\x00", huge])), "more elements than anything can hold");
    damaged(&with(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x07\x42\x01w"), "a dimension is -1");
    damaged(&with(&join(&[&b"\x08\x01".repeat(65), b"\x10\x07\x42\x01w"])), "65 dimensions");
}

/// A model of one tensor of 4 bytes in another file, in a folder with `w.data` of 8 bytes.
fn external(pairs: &[(&str, &str)], prepare: impl Fn(&Path)) -> crate::Result<Vec<u8>> {
    let mut t = b"\x08\x04\x10\x02\x42\x01w\x70\x01".to_vec();
    for (k, v) in pairs {
        t.extend(f(13, &join(&[&f(1, k.as_bytes()), &f(2, v.as_bytes())])));
    }
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("model");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("w.data"), b"abcdefgh").unwrap();
    std::fs::write(parent.path().join("secret"), b"abcdefgh").unwrap();
    std::fs::write(dir.join("m.onnx"), with(&t)).unwrap();
    prepare(&dir);
    let l = Loaded::open(&dir.join("m.onnx"))?;
    let bytes = l.tensor_bytes(&l.graph()?.initializer[0])?.to_vec();
    Ok(bytes)
}

fn external_refused(pairs: &[(&str, &str)], prepare: impl Fn(&Path), words: &str) {
    let e = external(pairs, prepare).expect_err("an error");
    assert!(e.to_string().contains(words), "{e}");
}

#[test]
fn another_file_is_read() {
    let place = [("location", "w.data"), ("offset", "3"), ("length", "4"), ("checksum", "whatever")];
    assert_eq!(external(&place, |_| ()).unwrap(), b"defg");
    assert_eq!(external(&[("location", "./w.data")], |_| ()).unwrap(), b"abcd");
}

#[test]
fn another_file_outside_the_folder() {
    let outside = "which is outside the folder of the model";
    external_refused(&[("location", "../secret")], |_| (), outside);
    external_refused(&[("location", "a/../../secret")], |_| (), outside);
    external_refused(&[("location", "/etc/passwd")], |_| (), outside);
    external_refused(&[("location", "..\\secret")], |_| (), "no path of this format");
    external_refused(&[("location", "w.data\0")], |_| (), "no path of this format");
    external_refused(&[("location", "")], |_| (), "does not say in which");
    external_refused(&[("offset", "0")], |_| (), "does not say in which");
}

#[cfg(unix)]
#[test]
fn another_file_that_is_a_link_or_no_file() {
    use std::os::unix::fs::symlink;
    let link = |d: &Path| symlink("../secret", d.join("link")).unwrap();
    external_refused(&[("location", "link")], link, "a link that leads outside");
    let folder = |d: &Path| symlink("..", d.join("up")).unwrap();
    external_refused(&[("location", "up/secret")], folder, "a link that leads outside");
    external_refused(&[("location", "sub")], |d| std::fs::create_dir(d.join("sub")).unwrap(), "no regular file");
    external_refused(&[("location", "/dev/zero")], |_| (), "outside the folder");
    external_refused(&[("location", "none")], |_| (), "in another file, which cannot be found");
    let inside = |d: &Path| symlink("w.data", d.join("link")).unwrap();
    assert_eq!(external(&[("location", "link")], inside).unwrap(), b"abcd");
}

#[test]
fn a_place_beyond_another_file() {
    let at = |offset| [("location", "w.data"), ("offset", offset), ("length", "4")];
    external_refused(&at("5"), |_| (), "4 bytes from byte 5 on, but the other file ends at byte 8");
    external_refused(&at("18446744073709551615"), |_| (), "4 bytes from byte 18446744073709551615");
    external_refused(&at("18446744073709551616"), |_| (), "which is no number");
    external_refused(&at("-1"), |_| (), "which is no number");
    external_refused(&at("+1"), |_| (), "which is no number");
    external_refused(&at(""), |_| (), "which is no number");
}

#[test]
fn a_place_of_another_length_than_the_shape() {
    let long = [("location", "w.data"), ("length", "5")];
    external_refused(&long, |_| (), "5 bytes of another file, its type and shape need 4");
    external_refused(&[("location", "w.data"), ("location", "secret")], |_| (), "`location` of its other file twice");
}

#[test]
fn types_have_their_numbers_and_sizes() {
    for id in -1..40 {
        assert!(Elem::from_id(id).is_none_or(|e| e.id() == id));
    }
    assert_eq!((Elem::I2.bytes(5), Elem::U4.bytes(3), Elem::I16.bytes(3)), (Some(2), Some(2), Some(6)));
    assert_eq!(Elem::I64.bytes(u64::MAX), None);
}
