//! The C applier, built as a shared object with the flags of an exported folder, and a device around it.

use super::nor::Nor;
use libloading::Library;
use std::ffi::{c_char, c_int, c_void, CStr};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const OK: u32 = 0;
pub const ALREADY: u32 = 1;
pub const BUSY: u32 = 19;
pub const IDLE: u8 = 0;
pub const RUN: u8 = 1;
pub const TRIAL: u8 = 2;

#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
struct Area {
    at: u32,
    bytes: u32,
}

#[repr(C)]
struct Flash {
    user: *mut c_void,
    read: extern "C" fn(*mut c_void, u32, *mut u8, u32) -> c_int,
    program: extern "C" fn(*mut c_void, u32, *const u8, u32) -> c_int,
    erase: extern "C" fn(*mut c_void, u32) -> c_int,
    sync: extern "C" fn(*mut c_void) -> c_int,
    erase_log2: u32,
    program_bytes: u32,
    slot: [Area; 2],
    patch: Area,
    state: Area,
    journal: Area,
}

type Verify = extern "C" fn(*const u8, *const u8, *const c_void, u32) -> c_int;

#[repr(C)]
struct Config {
    flash: *const Flash,
    model: *const c_char,
    keys: *const Key,
    key_count: u32,
    allow_unsigned: u32,
    allow_older: u32,
    sequence_lo: u32,
    sequence_hi: u32,
    verify: Option<Verify>,
    sha256: *const c_void,
    progress: Option<extern "C" fn(*mut c_void, u32, u32) -> c_int>,
    user: *mut c_void,
    memory: *mut c_void,
    bytes: u32,
    page_bytes: u32,
}

#[repr(C)]
#[derive(Clone)]
pub struct Key {
    pub number: [u8; 8],
    pub key: [u8; 32],
}

/// `bitnet_delta_state_t`, which is the first member of `bitnet_delta_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub counter: u32,
    pub state: u8,
    pub active: u8,
    pub back: u8,
    pub journal: u8,
    pub dirty: u8,
    pub trials: u32,
    pub group: u32,
    pub accepted: u64,
    pub current: u64,
    pub previous: u64,
    pub patch: [u8; 16],
    pub contents: [u8; 16],
}

#[derive(Clone, Copy)]
struct Calls {
    open: extern "C" fn(*mut c_void, *const Config) -> u32,
    active: extern "C" fn(*mut c_void, u32, *mut u32) -> u32,
    apply: extern "C" fn(*mut c_void) -> u32,
    check: extern "C" fn(*mut c_void) -> u32,
    confirm: extern "C" fn(*mut c_void) -> u32,
    rollback: extern "C" fn(*mut c_void) -> u32,
    text: extern "C" fn(u32) -> *const c_char,
    bytes: usize,
}

/// The applier, loaded.
pub struct Applier {
    calls: Calls,
    // The functions above are its.
    _library: Library,
}

pub fn runtime() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/export/c/files/runtime")
}

pub fn sources(folder: &Path) -> Vec<PathBuf> {
    ["", "_check", "_code", "_index", "_kinds", "_state"]
        .iter()
        .map(|n| folder.join(format!("bitnet_delta{n}.c")))
        .chain(["bitnet_sha256.c", "bitnet_math.c"].iter().map(|n| folder.join(n)))
        .collect()
}

/// The flags of the exported Makefile, from it.
pub fn warnings() -> Vec<String> {
    let makefile = include_str!("../../src/export/c/files/Makefile");
    let from = makefile.split("WARN := ").nth(1).expect("the Makefile has WARN");
    let text = from.split("\n#").next().expect("and what follows").replace('\\', " ");
    text.split_whitespace().map(String::from).collect()
}

impl Applier {
    /// Builds the sources of `folder` there and loads them.
    pub fn build(folder: &Path) -> Applier {
        let object = folder.join("delta.so");
        let size = folder.join("size.c");
        std::fs::write(
            &size,
            "#include \"bitnet_delta.h\"\nextern const uint32_t delta_bytes;\nconst uint32_t delta_bytes = sizeof(bitnet_delta_t);\n",
        )
        .unwrap();
        let mut cc = Command::new("cc");
        cc.args(warnings()).args(["-O3", "-ffreestanding", "-fno-builtin", "-shared", "-fPIC", "-I"]).arg(folder);
        let out = cc.args(sources(folder)).arg(&size).arg("-o").arg(&object).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        // SAFETY: the object was built above from our sources; its functions have the types of bitnet_delta.h, repeated here.
        unsafe {
            let library = Library::new(&object).unwrap();
            let calls = Calls {
                open: *library.get(b"bitnet_delta_open").unwrap(),
                active: *library.get(b"bitnet_delta_active").unwrap(),
                apply: *library.get(b"bitnet_delta_apply").unwrap(),
                check: *library.get(b"bitnet_delta_check").unwrap(),
                confirm: *library.get(b"bitnet_delta_confirm").unwrap(),
                rollback: *library.get(b"bitnet_delta_rollback").unwrap(),
                text: *library.get(b"bitnet_delta_text").unwrap(),
                bytes: **library.get::<*const u32>(b"delta_bytes").unwrap() as usize,
            };
            Applier { calls, _library: library }
        }
    }

    /// The sources as they are.
    pub fn ours(folder: &Path) -> Applier {
        copy_sources(folder);
        Applier::build(folder)
    }
}

pub fn copy_sources(folder: &Path) {
    for entry in std::fs::read_dir(runtime()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
}

/// Where things lie, in this order; one slot if `slots` is 1.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub slots: u32,
    pub erase_log2: u32,
    pub grain: u32,
    pub slot_bytes: u32,
    pub patch_bytes: u32,
    pub journal_bytes: u32,
    pub cached: bool,
}

impl Layout {
    fn up(&self, bytes: u32) -> u32 {
        (bytes + (1 << self.erase_log2) - 1) >> self.erase_log2 << self.erase_log2
    }

    pub fn slot(&self, k: u32) -> usize {
        (k * self.up(self.slot_bytes)) as usize
    }

    pub fn patch(&self) -> usize {
        self.slot(self.slots)
    }

    pub fn state(&self) -> usize {
        self.patch() + self.up(self.patch_bytes) as usize
    }

    fn journal(&self) -> usize {
        self.state() + (2 << self.erase_log2)
    }

    fn end(&self) -> usize {
        self.journal() + self.up(self.journal_bytes) as usize
    }

    pub fn flash(&self) -> Nor {
        let writable = vec![0..self.patch(), self.state()..self.end()];
        Nor::new(self.end(), 1 << self.erase_log2, self.grain as usize, writable, self.cached)
    }
}

extern "C" fn read(user: *mut c_void, at: u32, out: *mut u8, bytes: u32) -> c_int {
    // SAFETY: `user` is the Nor of the device that calls, `out` has room for `bytes`.
    let (nor, out) = unsafe { (&mut *user.cast::<Nor>(), std::slice::from_raw_parts_mut(out, bytes as usize)) };
    c_int::from(!nor.read(at as usize, out))
}

extern "C" fn program(user: *mut c_void, at: u32, data: *const u8, bytes: u32) -> c_int {
    // SAFETY: as above.
    let (nor, data) = unsafe { (&mut *user.cast::<Nor>(), std::slice::from_raw_parts(data, bytes as usize)) };
    c_int::from(!nor.program(at as usize, data))
}

extern "C" fn erase(user: *mut c_void, at: u32) -> c_int {
    // SAFETY: as above.
    c_int::from(!unsafe { &mut *user.cast::<Nor>() }.erase(at as usize))
}

extern "C" fn sync(user: *mut c_void) -> c_int {
    // SAFETY: as above.
    c_int::from(!unsafe { &mut *user.cast::<Nor>() }.sync())
}

/// One start of a device.
pub struct Device<'a> {
    applier: &'a Applier,
    pub nor: Box<Nor>,
    flash: Box<Flash>,
    config: Box<Config>,
    // The buffer that `config` points to.
    _memory: Vec<u32>,
    delta: Vec<u64>,
    pub keys: Vec<Key>,
}

impl<'a> Device<'a> {
    pub fn new(applier: &'a Applier, layout: &Layout, nor: Nor) -> Device<'a> {
        let area = |at: usize, bytes: u32| Area { at: at as u32, bytes: layout.up(bytes) };
        let mut nor = Box::new(nor);
        let user = std::ptr::from_mut::<Nor>(&mut nor).cast();
        let second = if layout.slots == 2 { area(layout.slot(1), layout.slot_bytes) } else { Area::default() };
        let flash = Box::new(Flash {
            user,
            read,
            program,
            erase,
            sync,
            erase_log2: layout.erase_log2,
            program_bytes: layout.grain,
            slot: [area(0, layout.slot_bytes), second],
            patch: area(layout.patch(), layout.patch_bytes),
            state: area(layout.state(), 2 << layout.erase_log2),
            journal: area(layout.journal(), layout.journal_bytes),
        });
        let mut memory = vec![0xa5a5_a5a5u32; 4096];
        let config = Box::new(Config {
            flash: &*flash,
            model: c"intent".as_ptr(),
            keys: std::ptr::null(),
            key_count: 0,
            allow_unsigned: 1,
            allow_older: 0,
            sequence_lo: 3,
            sequence_hi: 0,
            verify: None,
            sha256: std::ptr::null(),
            progress: None,
            user: std::ptr::null_mut(),
            memory: memory.as_mut_ptr().cast(),
            bytes: 4 * 4096,
            page_bytes: 512,
        });
        let delta = vec![0; applier.calls.bytes.div_ceil(8)];
        Device { applier, nor, flash, config, _memory: memory, delta, keys: Vec::new() }
    }

    /// The policy of the device.
    pub fn policy(&mut self, allow_unsigned: bool, allow_older: bool, model: Option<&'static CStr>) {
        self.config.allow_unsigned = u32::from(allow_unsigned);
        self.config.allow_older = u32::from(allow_older);
        self.config.model = model.map_or(std::ptr::null(), CStr::as_ptr);
    }

    pub fn trust(&mut self, keys: Vec<Key>, verify: Verify) {
        self.keys = keys;
        self.config.keys = self.keys.as_ptr();
        self.config.key_count = self.keys.len() as u32;
        self.config.verify = Some(verify);
    }

    pub fn patch_area(&mut self, bytes: u32) {
        self.flash.patch.bytes = bytes;
    }

    pub fn on_progress(&mut self, f: extern "C" fn(*mut c_void, u32, u32) -> c_int, user: *mut c_void) {
        self.config.progress = Some(f);
        self.config.user = user;
    }

    fn raw(&mut self) -> *mut c_void {
        self.delta.as_mut_ptr().cast()
    }

    pub fn open(&mut self) -> u32 {
        let config: *const Config = &*self.config;
        (self.applier.calls.open)(self.raw(), config)
    }

    pub fn active(&mut self, trials: u32) -> (u32, u32) {
        let mut slot = 9;
        let st = (self.applier.calls.active)(self.raw(), trials, &mut slot);
        (st, slot)
    }

    pub fn apply(&mut self) -> u32 {
        (self.applier.calls.apply)(self.raw())
    }

    pub fn check(&mut self) -> u32 {
        (self.applier.calls.check)(self.raw())
    }

    pub fn confirm(&mut self) -> u32 {
        (self.applier.calls.confirm)(self.raw())
    }

    pub fn rollback(&mut self) -> u32 {
        (self.applier.calls.rollback)(self.raw())
    }

    pub fn state(&self) -> State {
        // SAFETY: the state is the first member of the struct, and every bit pattern is one.
        unsafe { *self.delta.as_ptr().cast::<State>() }
    }

    pub fn text(&self, status: u32) -> String {
        // SAFETY: the applier answers a constant string for any number.
        unsafe { CStr::from_ptr((self.applier.calls.text)(status)) }.to_string_lossy().into_owned()
    }
}
