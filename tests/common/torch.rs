//! Checkpoints of torch byte by byte, for tests and the fuzz bodies.

use bitnet_convert::digest::crc32;

/// A zip archive of stored entries, without zip64 records.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let place = file.len() as u32;
        let sizes = [crc32(data), data.len() as u32, data.len() as u32].map(u32::to_le_bytes).concat();
        let name_len = (name.len() as u16).to_le_bytes();
        // Version, flags, method, time, date; sizes; lengths of name and extra field.
        let shared = [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0], &sizes[..], &name_len, &[0, 0]].concat();
        file.extend([b"PK\x03\x04", &shared[..], name.as_bytes(), data].concat());
        // Comment, disk, attributes, place.
        let rest = [&[0; 10][..], &place.to_le_bytes()].concat();
        directory.extend([b"PK\x01\x02\x14\x00", &shared[..], &rest, name.as_bytes()].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let place = [directory.len() as u32, file.len() as u32].map(u32::to_le_bytes).concat();
    [&file[..], &directory, b"PK\x05\x06\0\0\0\0", &count, &count, &place, &[0, 0]].concat()
}

/// The same with zip64 records between directory and end record, as torch writes them.
pub fn archive64(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = archive(entries);
    let end = file.split_off(file.len() - 22);
    let at = file.len() as u64;
    let (size, start) =
        (u32::from_le_bytes(end[12..16].try_into().unwrap()), u32::from_le_bytes(end[16..20].try_into().unwrap()));
    let wide =
        [44, 0, entries.len() as u64, entries.len() as u64, u64::from(size), u64::from(start)].map(u64::to_le_bytes);
    // The versions and disks are the second of these words, but 4 bytes longer.
    file.extend([b"PK\x06\x06", &wide[0][..], &[45, 0, 45, 0], &wide[1..].concat()].concat());
    file.extend([b"PK\x06\x07\0\0\0\0", &at.to_le_bytes()[..], &1u32.to_le_bytes()].concat());
    [file, end].concat()
}

/// A checkpoint with this pickle and one storage of 64 bytes, `0`.
pub fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    let storage: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    archive(&[("m/data.pkl", pickle), ("m/data/0", &storage)])
}

pub fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

pub fn int(v: i64) -> Vec<u8> {
    [b"\x8A\x08", &v.to_le_bytes()[..]].concat()
}

pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

/// What puts an f32 tensor on the stack.
pub fn tensor(key: &str, numel: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    let ints = |v: &[i64]| tuple(&v.iter().map(|v| int(*v)).collect::<Vec<_>>());
    let storage = tuple(&[text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(key), text("cpu"), int(numel)]);
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let args = tuple(&[[&storage[..], b"Q"].concat(), int(offset), ints(size), ints(stride), vec![0x89], hooks]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n", &args[..], b"R"].concat()
}

/// A pickled dict of one key.
pub fn state(name: &str, value: &[u8]) -> Vec<u8> {
    [b"\x80\x02}", &text(name)[..], value, b"s."].concat()
}
