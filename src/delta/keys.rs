//! Keys of Ed25519, their files, and signatures of patches.
//!
//! Files are those of minisign, so that its tools read them; the older form of this program, 32 bytes as 64 hexadecimal digits, is read too. One key
//! serves adapters and patches: their first bytes differ, so a signature of one is never one of the other.

use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::format::base64;
use crate::fsio::read_capped;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Bytes of the header of a patch.
const HEADER: usize = 384;
/// What a signature covers: a name, so that it is good for nothing else, then the header up to the signature.
const CONTEXT: &[u8; 16] = b"bitnet delta v1\0";
const FLAGS_AT: usize = 12;
const SIGNED: u8 = 8;
const NUMBER_AT: usize = 280;
const SIGNATURE_AT: usize = 320;

const COMMENT: &str = "untrusted comment:";
/// "Ed", number, key.
const PUBLIC_BYTES: usize = 2 + 8 + 32;
/// "Ed", derivation, check sum, then salt, two limits, number, key with its public part, check sum.
const SECRET_BYTES: usize = 6 + 32 + 8 + 8 + 8 + 64 + 32;
const NUMBER_IN_SECRET: usize = 54;
const CHECK_IN_SECRET: usize = SECRET_BYTES - 32;
/// A key file is a line or two.
const MAX_FILE_BYTES: u64 = 4096;
/// Longest comment that keygen writes.
const MAX_COMMENT: usize = 256;

/// Tells keys apart; random, or of an older key file the first bytes of the public key's SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(pub [u8; 8]);

/// As minisign shows it.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl Number {
    fn derived(key: &[u8; 32]) -> Self {
        let mut number = [0; 8];
        number.copy_from_slice(&sha256(key)[..8]);
        Number(number)
    }
}

/// What checks signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    number: Number,
    key: VerifyingKey,
}

impl PublicKey {
    fn new(number: Number, bytes: &[u8; 32]) -> Result<Self> {
        let key = VerifyingKey::from_bytes(bytes).ok().filter(|k| !k.is_weak() && is_canonical(bytes));
        let key = key.ok_or_else(|| Error::input("this is no public key of Ed25519"))?;
        if number == Number([0; 8]) {
            return Err(
                Error::input("a key without a number").hint("make another one: `bitnet-convert delta keygen -o NAME`")
            );
        }
        Ok(PublicKey { number, key })
    }

    /// From the text of a public key file: minisign's, its second line alone, or 64 hexadecimal digits.
    ///
    /// # Errors
    /// `Input` for other text, and for a number that is no key or one that signs everything.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if let Some(key) = hexadecimal(text) {
            return Self::new(Number::derived(&key), &key);
        }
        let bytes = payload(text)?;
        if bytes.len() == SECRET_BYTES {
            let e = Error::input("this is a secret key, a public one is needed");
            return Err(
                e.hint("the public key is the file that ends in .pub; keep the secret one where nobody else reads it")
            );
        }
        match bytes.first_chunk::<PUBLIC_BYTES>() {
            Some(b) if bytes.len() == PUBLIC_BYTES && b.starts_with(b"Ed") => {
                let (mut number, mut key) = ([0; 8], [0; 32]);
                number.copy_from_slice(&b[2..10]);
                key.copy_from_slice(&b[10..]);
                Self::new(Number(number), &key)
            }
            _ => Err(no_key_file()),
        }
    }

    /// # Errors
    /// `Io`, and those of [`Self::parse`], with the path.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_capped(path, MAX_FILE_BYTES)?).map_err(|e| e.at_file(path))
    }

    /// The line that stands for the key, without comment: [`Self::parse`] and `minisign -P` take it.
    pub fn line(&self) -> String {
        base64::encode(&[&b"Ed"[..], &self.number.0, self.key.as_bytes()].concat())
    }

    pub fn number(&self) -> Number {
        self.number
    }

    /// The 32 bytes of RFC 8032, what a device is given.
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// For signatures of something else than patches.
    pub fn verifying(&self) -> &VerifyingKey {
        &self.key
    }
}

/// y below 2^255 - 19: the one form of a point that is not of small order.
fn is_canonical(key: &[u8; 32]) -> bool {
    key[31] & 0x7F != 0x7F || key[1..31].iter().any(|b| *b != 0xFF) || key[0] < 0xED
}

/// What signs.
pub struct SecretKey {
    number: Number,
    key: SigningKey,
}

impl SecretKey {
    /// A new key from the randomness of the operating system.
    ///
    /// # Errors
    /// `Io` if there is none.
    pub fn generate() -> Result<Self> {
        let random = random_bytes()?;
        let (mut number, mut seed) = ([0; 8], [0; 32]);
        number.copy_from_slice(&random[..8]);
        seed.copy_from_slice(&random[8..]);
        number[0] |= u8::from(number == [0; 8]); // 0 means unsigned
        Ok(SecretKey { number: Number(number), key: SigningKey::from_bytes(&seed) })
    }

    /// From the text of a secret key file: minisign's without a password, or 64 hexadecimal digits.
    ///
    /// # Errors
    /// `Unsupported` for a file that is encrypted, `Input` for other text and damage.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if let Some(seed) = hexadecimal(text) {
            let key = SigningKey::from_bytes(&seed);
            return Ok(SecretKey { number: Number::derived(key.verifying_key().as_bytes()), key });
        }
        let bytes = payload(text)?;
        if bytes.len() == PUBLIC_BYTES {
            let e = Error::input("this is a public key, the secret one is needed to sign");
            return Err(e.hint("the secret key is the file that ends in .key"));
        }
        let Some(b) =
            bytes.first_chunk::<SECRET_BYTES>().filter(|b| bytes.len() == SECRET_BYTES && b.starts_with(b"Ed"))
        else {
            return Err(no_key_file());
        };
        if b[2..4] == *b"Sc" {
            let e = Error::unsupported(
                "the secret key is encrypted with a password, this program reads only those without one",
            );
            return Err(e.hint("make one without: `bitnet-convert delta keygen -o NAME`, or take the password off a copy: `minisign -C -W -s FILE`"));
        }
        if b[2..6] != *b"\0\0B2" {
            return Err(Error::unsupported("the secret key file is of a form that this program does not know"));
        }
        let (mut number, mut seed) = ([0; 8], [0; 32]);
        number.copy_from_slice(&b[NUMBER_IN_SECRET..NUMBER_IN_SECRET + 8]);
        seed.copy_from_slice(&b[NUMBER_IN_SECRET + 8..NUMBER_IN_SECRET + 40]);
        let secret = SecretKey { number: Number(number), key: SigningKey::from_bytes(&seed) };
        let check = &b[CHECK_IN_SECRET..];
        // minisign itself leaves the check sum of an unencrypted file empty.
        let checked = check == secret.check() || check.iter().all(|c| *c == 0);
        if !checked || secret.key.verifying_key().as_bytes() != &b[CHECK_IN_SECRET - 32..CHECK_IN_SECRET] {
            return Err(Error::input("the secret key file is damaged: its check sum or its public part differs")
                .hint("take it from a backup"));
        }
        secret.public().map(|_| secret)
    }

    /// # Errors
    /// `Io`, and those of [`Self::parse`], with the path.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&read_capped(path, MAX_FILE_BYTES)?).map_err(|e| e.at_file(path))
    }

    pub fn number(&self) -> Number {
        self.number
    }

    /// # Errors
    /// `Input` for a number of 0.
    pub fn public(&self) -> Result<PublicKey> {
        PublicKey::new(self.number, self.key.verifying_key().as_bytes())
    }

    /// For signatures of something else than patches.
    pub fn signing(&self) -> &SigningKey {
        &self.key
    }

    fn check(&self) -> [u8; 32] {
        let hash = Blake2b::<U32>::new().chain_update(b"Ed").chain_update(self.number.0);
        hash.chain_update(self.key.to_keypair_bytes()).finalize().into()
    }

    /// Payload of the secret key file.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"Ed\0\0B2".to_vec();
        out.resize(NUMBER_IN_SECRET, 0); // no salt, no limits
        out.extend(self.number.0);
        out.extend(self.key.to_keypair_bytes());
        out.extend(self.check());
        out
    }

    /// Writes `NAME.key`, readable by its owner only, and `NAME.pub`; neither may be there.
    ///
    /// # Errors
    /// `Usage` if one of them is there or the comment is no single line, `Io`.
    pub fn write(&self, name: &Path, comment: Option<&str>) -> Result<(PathBuf, PathBuf)> {
        if comment.is_some_and(|c| c.len() > MAX_COMMENT || c.chars().any(char::is_control)) {
            return Err(Error::usage(format!("a comment is one line of at most {MAX_COMMENT} bytes")));
        }
        let file = name.file_name().ok_or_else(|| Error::usage("the output has no file name").at_file(name))?;
        let with = |end: &str| {
            let mut file = file.to_os_string();
            file.push(end);
            name.with_file_name(file)
        };
        let (secret, public) = (with(".key"), with(".pub"));
        if let Some(there) = [&secret, &public].into_iter().find(|p| fs::symlink_metadata(p).is_ok()) {
            let e = Error::usage("there is a key already, it is never overwritten").at_file(there);
            return Err(e.hint("give another name; whoever loses a secret key cannot update what trusts it"));
        }
        let text = |default: String, payload: &str| {
            format!("{COMMENT} {}\n{payload}\n", comment.map_or(default, String::from))
        };
        let line = self.public()?.line();
        create(&public, &text(format!("bitnet-convert public key {}", self.number), &line), 0o644)?;
        let hidden = base64::encode(&self.to_bytes());
        create(&secret, &text(format!("bitnet-convert secret key {}", self.number), &hidden), 0o600)
            .inspect_err(|_| drop(fs::remove_file(&public)))?;
        Ok((secret, public))
    }
}

/// A file that must not be there yet; gone again if it cannot be completed.
fn create(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path).map_err(|e| Error::io("create the key file", path, &e))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| {
        let _ = fs::remove_file(path);
        Error::io("write the key file", path, &e)
    })
}

/// From the operating system, once it has gathered enough: the first device waits for that on every Linux, the second one does on none.
#[cfg(unix)]
fn random_bytes() -> Result<[u8; 40]> {
    let mut out = [0; 40];
    let mut seeded = [0; 1];
    for (device, room) in [("/dev/random", &mut seeded[..]), ("/dev/urandom", &mut out[..])] {
        let path = Path::new(device);
        let read = File::open(path).and_then(|mut f| f.read_exact(room));
        read.map_err(|e| Error::io("read randomness", path, &e))?;
    }
    Ok(out)
}

#[cfg(not(unix))]
fn random_bytes() -> Result<[u8; 40]> {
    let e = Error::unsupported("this program has no source of randomness on this system");
    Err(e.hint("make the keys elsewhere, or with `minisign -G -W`, whose files are read here"))
}

/// The older form, 64 digits with white space around them; None for everything else.
fn hexadecimal(text: &[u8]) -> Option<[u8; 32]> {
    let digits = text.trim_ascii();
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut key = [0; 32];
    if pairs.len() != key.len() || !rest.is_empty() {
        return None;
    }
    for (k, pair) in key.iter_mut().zip(pairs) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *k = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(key)
}

/// The bytes of the line that holds the key, a comment before it or not.
fn payload(text: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(text).map_err(|_| no_key_file())?;
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty()).peekable();
    lines.next_if(|l| l.starts_with(COMMENT));
    match (lines.next(), lines.next()) {
        (Some(line), None) => base64::decode(line.as_bytes()).ok_or_else(no_key_file),
        _ => Err(no_key_file()),
    }
}

fn no_key_file() -> Error {
    let e = Error::input(
        "this is no key file: neither minisign's (a comment and a line of base64) nor 64 hexadecimal digits",
    );
    e.hint("make keys with `bitnet-convert delta keygen -o NAME`")
}

/// The public keys whose signatures count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring(BTreeMap<Number, PublicKey>);

impl Keyring {
    /// # Errors
    /// Those of [`PublicKey::read`] and [`Self::add`].
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self> {
        let mut ring = Self::default();
        for path in paths {
            let path = path.as_ref();
            ring.add(PublicKey::read(path)?).map_err(|e| e.at_file(path))?;
        }
        Ok(ring)
    }

    /// # Errors
    /// `Input` if there is another key with this number.
    pub fn add(&mut self, key: PublicKey) -> Result<()> {
        match self.0.get(&key.number) {
            Some(there) if *there != key => {
                Err(Error::input(format!("two different keys have the number {}", key.number)))
            }
            _ => {
                self.0.insert(key.number, key);
                Ok(())
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of their numbers.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values()
    }
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Unsigned,
    /// Signed by a key with this number, which is none of the ring.
    Unknown(Number),
    /// The signature is not one of this key: the header was changed, or somebody else signed it.
    Wrong(Number),
}

impl From<Refused> for Error {
    fn from(r: Refused) -> Error {
        match r {
            Refused::Unsigned => Error::input("the patch is not signed").hint(
                "only signed patches are taken here: make it with `bitnet-convert delta create … --sign NAME.key`",
            ),
            Refused::Unknown(n) => {
                Error::input(format!("the patch is signed by the key {n}, which is not trusted here"))
                    .hint("give its public key (`--key NAME.pub`) if you trust it")
            }
            Refused::Wrong(n) => Error::input(format!("the signature of the patch is not one of the key {n}"))
                .at_offset(SIGNATURE_AT as u64)
                .hint("the patch was changed on its way, or comes from somebody else; fetch it again"),
        }
    }
}

/// What is signed of a header.
fn message(header: &[u8; HEADER]) -> [u8; CONTEXT.len() + SIGNATURE_AT] {
    let mut out = [0; CONTEXT.len() + SIGNATURE_AT];
    out[..CONTEXT.len()].copy_from_slice(CONTEXT);
    out[CONTEXT.len()..].copy_from_slice(&header[..SIGNATURE_AT]);
    out
}

/// The header with flag, number and signature; what was there of them does not matter.
pub fn sign(header: &[u8; HEADER], key: &SecretKey) -> [u8; HEADER] {
    let mut out = *header;
    out[FLAGS_AT] |= SIGNED;
    out[NUMBER_AT..NUMBER_AT + 8].copy_from_slice(&key.number.0);
    let signature = key.key.sign(&message(&out));
    out[SIGNATURE_AT..].copy_from_slice(&signature.to_bytes());
    out
}

/// Who signed a header, strictly (docs/format/delta.md).
///
/// # Errors
/// Why nobody of the ring did.
pub fn verify<'a>(header: &[u8; HEADER], ring: &'a Keyring) -> std::result::Result<&'a PublicKey, Refused> {
    if header[FLAGS_AT] & SIGNED == 0 {
        return Err(Refused::Unsigned);
    }
    let mut number = [0; 8];
    number.copy_from_slice(&header[NUMBER_AT..NUMBER_AT + 8]);
    let number = Number(number);
    let key = ring.0.get(&number).ok_or(Refused::Unknown(number))?;
    let mut signature = [0; 64];
    signature.copy_from_slice(&header[SIGNATURE_AT..]);
    match key.key.verify_strict(&message(header), &Signature::from_bytes(&signature)) {
        Ok(()) => Ok(key),
        Err(_) => Err(Refused::Wrong(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test 2 of RFC 8032.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";

    fn public_error(text: &str) -> String {
        PublicKey::parse(text.as_bytes()).unwrap_err().to_string()
    }

    fn secret_error(text: &str) -> String {
        SecretKey::parse(text.as_bytes()).err().unwrap().to_string()
    }

    /// The text of a secret file with one byte of its payload changed.
    fn changed(key: &SecretKey, at: usize) -> String {
        let mut bytes = key.to_bytes();
        bytes[at] ^= 1;
        base64::encode(&bytes)
    }

    #[test]
    fn digits_are_the_keys_of_rfc_8032() {
        let secret = SecretKey::parse(format!(" {SEED}\n").as_bytes()).unwrap();
        let public = PublicKey::parse(PUBLIC.to_uppercase().as_bytes()).unwrap();
        assert_eq!(secret.public().unwrap(), public);
        assert_eq!(public.number(), Number::derived(public.bytes()));
    }

    #[test]
    fn files_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let key = SecretKey::generate().unwrap();
        let (secret, public) = key.write(&dir.path().join("v1.release"), Some("the \u{e9} key")).unwrap();
        assert!(secret.ends_with("v1.release.key") && public.ends_with("v1.release.pub"));
        let again = SecretKey::read(&secret).unwrap();
        assert_eq!((again.number, again.key.to_bytes()), (key.number, key.key.to_bytes()));
        let read = PublicKey::read(&public).unwrap();
        assert_eq!(read, key.public().unwrap());
        assert_eq!(PublicKey::parse(read.line().as_bytes()).unwrap(), read);
        let text = fs::read_to_string(&public).unwrap().replace('\n', "\r\n");
        assert!(text.starts_with("untrusted comment: the \u{e9} key\r\n"), "{text}");
        assert_eq!(PublicKey::parse(text.as_bytes()).unwrap(), read);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_ne!(SecretKey::generate().unwrap().number, key.number);
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        for there in ["a.key", "b.pub"] {
            fs::write(dir.path().join(there), "mine").unwrap();
            let name = dir.path().join(&there[..1]);
            let e = SecretKey::generate().unwrap().write(&name, None).unwrap_err().to_string();
            assert!(e.contains("never overwritten") && e.contains(there), "{e}");
            assert_eq!(fs::read(dir.path().join(there)).unwrap(), b"mine");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let e = SecretKey::generate().unwrap().write(&dir.path().join("c"), Some("two\nlines")).unwrap_err();
        assert!(e.to_string().contains("one line"), "{e}");
    }

    /// Made by minisign 0.11, `-G -W`.
    #[test]
    fn files_of_minisign_are_read() {
        let public = "untrusted comment: minisign public key D63BA43491AB160E\nRWQOFquRNKQ71nBdVA2At+Sj5myH0B6v67YMJurneMPS+Tw7OJAlja/e\n";
        let secret = "untrusted comment: minisign encrypted secret key\nRWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADharkTSkO9ZHwP6pGf2Q9UVws9KmY4Yaja8DbfuS29SVQ7egs28EhnBdVA2At+Sj5myH0B6v67YMJurneMPS+Tw7OJAlja/eAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        let public = PublicKey::parse(public.as_bytes()).unwrap();
        assert_eq!(public.number().to_string(), "D63BA43491AB160E");
        assert_eq!(SecretKey::parse(secret.as_bytes()).unwrap().public().unwrap(), public);
    }

    #[test]
    fn a_file_with_a_password_is_refused_with_what_to_do() {
        let mut bytes = SecretKey::generate().unwrap().to_bytes();
        bytes[2..4].copy_from_slice(b"Sc");
        let e = SecretKey::parse(base64::encode(&bytes).as_bytes()).err().unwrap();
        assert!(e.to_string().contains("password") && e.kind() == crate::error::Kind::Unsupported);
        let what_to_do = e.next_step().unwrap_or_default();
        assert!(what_to_do.contains("delta keygen") && what_to_do.contains("minisign -C -W"), "{what_to_do}");
    }

    #[test]
    fn the_wrong_half_is_named() {
        let key = SecretKey::generate().unwrap();
        assert!(public_error(&base64::encode(&key.to_bytes())).contains("this is a secret key"));
        assert!(secret_error(&key.public().unwrap().line()).contains("this is a public key"));
    }

    #[test]
    fn damaged_secret_files() {
        let key = SecretKey::generate().unwrap();
        for at in NUMBER_IN_SECRET..SECRET_BYTES {
            assert!(secret_error(&changed(&key, at)).contains("damaged"), "byte {at}");
        }
        for at in [0, 1, 3, 4, 5] {
            assert!(!secret_error(&changed(&key, at)).contains("damaged"), "byte {at}");
        }
        let text = base64::encode(&key.to_bytes());
        assert!(secret_error(&text[..text.len() - 4]).contains("no key file"));
    }

    #[test]
    fn what_is_no_key_file() {
        let line = SecretKey::generate().unwrap().public().unwrap().line();
        for text in [
            "",
            "\n",
            "key",
            "untrusted comment: x",
            &format!("{line}\n{line}"),
            &format!("untrusted comment: a\nuntrusted comment: b\n{line}"),
            &line[1..],
            &SEED[1..],
            &format!("{SEED}00"),
        ] {
            assert!(public_error(text).contains("no key file"), "{text:?}");
            assert!(secret_error(text).contains("no key file"), "{text:?}");
        }
        assert!(PublicKey::parse(b"\xff\xfe").is_err() && SecretKey::parse(&[0; 64]).is_err());
        let nowhere = "0200000000000000000000000000000000000000000000000000000000000000"; // y = 2 is on no point
        assert!(public_error(nowhere).contains("no public key"));
    }

    #[test]
    fn a_key_that_signs_everything_is_refused() {
        // The neutral point, a point of order 4, and -1 in a form that is not the canonical one of it.
        for (low, high) in [("01", "00"), ("00", "00"), ("00", "80"), ("ee", "7f")] {
            let fill = if high == "7f" { "ff" } else { "00" };
            assert!(
                public_error(&format!("{low}{}{high}", fill.repeat(30))).contains("no public key"),
                "{low}..{high}"
            );
        }
    }

    /// y = p + 3 is on the curve as 3 is, and not of small order.
    #[test]
    fn a_key_has_one_form() {
        assert!(PublicKey::parse(format!("03{}", "00".repeat(31)).as_bytes()).is_ok());
        assert!(public_error(&format!("f0{}7f", "ff".repeat(30))).contains("no public key"));
    }

    #[test]
    fn a_number_of_zero_means_unsigned() {
        let mut key = SecretKey::generate().unwrap();
        key.number = Number([0; 8]);
        assert!(secret_error(&base64::encode(&key.to_bytes())).contains("without a number"));
        let line = [&b"Ed"[..], &[0; 8], key.key.verifying_key().as_bytes()].concat();
        assert!(public_error(&base64::encode(&line)).contains("without a number"));
    }

    #[test]
    fn every_bit_of_a_header_is_signed() {
        let key = SecretKey::generate().unwrap();
        let mut ring = Keyring::default();
        let mut header = [0x21; HEADER];
        header[FLAGS_AT] = 1;
        assert_eq!(verify(&header, &ring), Err(Refused::Unsigned));
        let signed = sign(&header, &key);
        assert_eq!(verify(&signed, &ring), Err(Refused::Unknown(key.number)));
        ring.add(key.public().unwrap()).unwrap();
        ring.add(SecretKey::generate().unwrap().public().unwrap()).unwrap();
        assert_eq!(verify(&signed, &ring).unwrap().number(), key.number);
        assert_eq!(sign(&signed, &key), signed);
        for bit in 0..8 * HEADER {
            let mut bad = signed;
            bad[bit / 8] ^= 1 << (bit % 8);
            let refused = verify(&bad, &ring).unwrap_err();
            match bit / 8 {
                FLAGS_AT if bit % 8 == 3 => assert_eq!(refused, Refused::Unsigned),
                NUMBER_AT..288 => assert!(matches!(refused, Refused::Unknown(_))),
                _ => assert_eq!(refused, Refused::Wrong(key.number), "bit {bit}"),
            }
        }
    }

    /// Signs with another key under a number that is trusted.
    #[test]
    fn a_number_proves_nothing() {
        let (mine, mut theirs) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let mut ring = Keyring::default();
        ring.add(mine.public().unwrap()).unwrap();
        theirs.number = mine.number;
        assert_eq!(verify(&sign(&[0; HEADER], &theirs), &ring), Err(Refused::Wrong(mine.number)));
        assert!(ring.add(theirs.public().unwrap()).unwrap_err().to_string().contains("two different keys"));
        assert_eq!(ring.keys().count(), 1);
    }

    /// A signature over the header alone, as of another protocol, does not count.
    #[test]
    fn the_context_is_signed() {
        let key = SecretKey::generate().unwrap();
        let mut ring = Keyring::default();
        ring.add(key.public().unwrap()).unwrap();
        let mut header = sign(&[0; HEADER], &key);
        let alone = key.key.sign(&header[..SIGNATURE_AT]);
        header[SIGNATURE_AT..].copy_from_slice(&alone.to_bytes());
        assert_eq!(verify(&header, &ring), Err(Refused::Wrong(key.number)));
    }
}
