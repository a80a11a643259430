//! Texts that have broken tokenizers before, and the tables that random ones are made from.

/// White space of all kinds, and what looks like it but is none.
pub const SPACES: &[&str] = &[
    " ", " ", " ", "  ", "\t", "\n", "\n\n", "\r", "\r\n", "\u{b}", "\u{c}", "\u{1c}", "\u{1f}", "\u{85}", "\u{a0}",
    "\u{1680}", "\u{180e}", "\u{2000}", "\u{2003}", "\u{2009}", "\u{200a}", "\u{200b}", "\u{200c}", "\u{200d}",
    "\u{2028}", "\u{2029}", "\u{202f}", "\u{205f}", "\u{2060}", "\u{3000}", "\u{feff}", "\u{2581}", "\u{ad}",
];

/// What the cutting of words and numbers looks at.
pub const PIECES: &[&str] = &[
    "a",
    "b",
    "the",
    "The",
    "THE",
    "ing",
    "x",
    "iPhone",
    "McDonald",
    "HTTPServer",
    "'",
    "'s",
    "'S",
    "'t",
    "'re",
    "'RE",
    "'ve",
    "'m",
    "'ll",
    "'Ll",
    "'d",
    "'\u{17f}",
    "'r",
    "'v",
    "'l",
    "''",
    "\u{2019}s",
    "\u{2019}",
    "`",
    "0",
    "1",
    "7",
    "42",
    "123",
    "1234567",
    "½",
    "²",
    "Ⅷ",
    "٣",
    "𝟘",
    "५",
    "〇",
    ".",
    ",",
    "!",
    "?",
    "...",
    "--",
    "====",
    "(",
    ")",
    "<",
    "|",
    "<|",
    "|>",
    "_",
    "#",
    "##",
    "##ing",
    "@",
    "http://",
    "\\",
    "\"",
    "{}",
    "[]",
    "$",
    "€",
    "+",
    "^",
    "~",
    "/",
    "//",
    "/\n",
    "?!\n\n",
    "é",
    "e\u{301}",
    "ß",
    "ẞ",
    "ǅ",
    "İ",
    "ı",
    "ſ",
    "Å",
    "\u{212b}",
    "ﬁ",
    "Ω",
    "Σς",
    "ж",
    "я",
    "中",
    "文字",
    "日本語",
    "ひらがな",
    "カタカナ",
    "ｶﾞ",
    "한",
    "한국어",
    "ع",
    "لا",
    "ש",
    "हि",
    "ไทย",
    "ក្",
    "🙂",
    "👩‍👩‍👧",
    "🇪🇺",
    "👍🏽",
    "1️⃣",
    "❤\u{fe0f}",
    "\u{0}",
    "\u{1}",
    "\u{7f}",
    "\u{80}",
    "\u{9f}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{10ffff}",
    "\u{e000}",
    "\u{e0001}",
    "Ġ",
    "Ċ",
    "▁",
    "▁▁",
    "<0x41>",
    "<unk>",
    "[UNK]",
    "aaaaaaaa",
    "        ",
];

/// Letters that make words, a range for each script.
pub const SCRIPTS: &[(u32, u32)] = &[
    (0x61, 0x7a),
    (0x61, 0x7a),
    (0x41, 0x5a),
    (0x30, 0x39),
    (0xc0, 0x17f),
    (0x180, 0x24f),
    (0x370, 0x3ff),
    (0x400, 0x4ff),
    (0x531, 0x586),
    (0x5d0, 0x5ea),
    (0x620, 0x64a),
    (0x660, 0x669),
    (0x904, 0x939),
    (0x966, 0x96f),
    (0x985, 0x9b9),
    (0xb85, 0xbb9),
    (0xe01, 0xe3a),
    (0xe81, 0xeae),
    (0xf40, 0xf6c),
    (0x1000, 0x102a),
    (0x10a0, 0x10ff),
    (0x1200, 0x135a),
    (0x13a0, 0x13ff),
    (0x1780, 0x17b3),
    (0x1e00, 0x1eff),
    (0x1f00, 0x1fff),
    (0x2c80, 0x2ce4),
    (0x3041, 0x3096),
    (0x30a1, 0x30fa),
    (0x3400, 0x4dbf),
    (0x4e00, 0x9fff),
    (0x4e00, 0x5000),
    (0xac00, 0xd7a3),
    (0xff01, 0xffee),
    (0x1_0400, 0x1_044f),
    (0x1_d400, 0x1_d7ff),
    (0x1_f600, 0x1_f64f),
    (0x2_0000, 0x2_00ff),
    (0x21, 0x2f),
    (0x2190, 0x21ff),
];

/// Combining marks, of many classes.
pub const MARKS: &[(u32, u32)] = &[
    (0x300, 0x36f),
    (0x300, 0x315),
    (0x316, 0x333),
    (0x345, 0x345),
    (0x483, 0x489),
    (0x591, 0x5c7),
    (0x64b, 0x65f),
    (0x93c, 0x94d),
    (0xe31, 0xe4e),
    (0xf71, 0xf84),
    (0x1ab0, 0x1ace),
    (0x1dc0, 0x1dff),
    (0x20d0, 0x20f0),
    (0x302a, 0x302f),
    (0x3099, 0x309a),
    (0xfe00, 0xfe0f),
    (0xfe20, 0xfe2f),
    (0x1_d165, 0x1_d172),
    (0xe_0100, 0xe_01ef),
];

const FIXED: &[&str] = &[
    "",
    " ",
    "  ",
    "   ",
    "\n",
    " \n",
    "\n ",
    "\n\n",
    "\r\n",
    "\r\n\r\n x",
    "\t\tx",
    "a",
    " a",
    "  a",
    "a ",
    "a  ",
    "a   b",
    "a b  c   d",
    "Hello",
    "Hello world",
    " Hello world",
    "Hello  world",
    "Hello\nworld",
    "hello, WORLD! It's 2024.",
    "don't",
    "DON'T",
    "'s",
    " 's",
    "x's'st",
    "it's we're I'll I'd they've I'm",
    "IT'S WE'RE I'LL",
    "\u{2019}s it\u{2019}s",
    "1 22 333 4444 55555 1234567890",
    "a1b22c333",
    "3.14159 -1e-10 0x1F 1,000,000",
    "½⅓¼ ²³ Ⅷ ٣٤٥ 𝟘𝟙",
    "foo \n bar\n\n  baz",
    "...\n\n...",
    "? \n!",
    "\u{a0}\u{a0}x",
    "x\u{3000}\u{3000}",
    "Hello, world! ¿Qué tal? 你好，世界",
    "fn main() { println!(\"{}\", 0x1F); }\n",
    "if x:\n\treturn y\n\n\n    z",
    "'\u{17f}t",
    "a'ſb",
    "e\u{301}e\u{301}",
    "\u{301}",
    "\u{301}a",
    " \u{301}a",
    "a\u{301}\u{302}\u{303}",
    "\u{200d}\u{200d}",
    "a\u{0}b",
    "\u{feff}BOM",
    "b\u{feff}",
    "\u{fffd}",
    "\u{0}",
    "\u{1}\u{2}\u{3}",
    "\u{7f}\u{80}\u{9f}",
    "a\u{ad}b",
    "x\u{200b}y",
    "a\u{2028}b\u{2029}c",
    "👩‍👩‍👧‍👦",
    "👩🏽‍🚀👨‍❤️‍💋‍👨",
    "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
    "🇩🇪🇫🇷🇯🇵🇺",
    "1️⃣2️⃣#️⃣",
    "☺︎☺️",
    "👍🏻👍🏿",
    "mixed кириллица and ελληνικά und Größe",
    "аpple pаypal",
    "שלום עולם",
    "مرحبا بالعالم",
    "\u{202e}txet desrever\u{202c}",
    "हिन्दी में पाठ",
    "สวัสดีชาวโลก",
    "ភាសាខ្មែរ",
    "日本語のテキスト",
    "한국어 텍스트",
    "\u{1112}\u{1161}\u{11ab}",
    "ﬁﬂﬀ ℌ ℃ ㎏ ㍿ ①②③ ﷺ",
    "ＦＵＬＬ　ｗｉｄｔｈ",
    "ｶﾞｷﾞｸﾞ",
    "İstanbul ıŞĞ",
    "ẞß SS ﬅ",
    "Å Å Å",
    "q\u{323}\u{307} q\u{307}\u{323}",
    "ά ά",
    "ΑΣ ΑΣΑ",
    "ŉ ǰ ΐ",
    "각 각",
    "\u{0958} क़",
    "𝒜𝓑𝔠𝕯",
    "\u{10ffff}\u{e000}\u{fdd0}",
    "Ġa Ċ ▁a ▁▁",
    "▁",
    "▁▁▁a",
    "a▁b",
    "##a ##",
    "<0x41><0x0A>",
    "<unk>",
    "[UNK] [CLS] [SEP] [MASK] [PAD]",
    "<s></s><pad>",
    "<|endoftext|><|im_start|>user\n<|im_end|>",
    "<|",
    "|>",
    "<",
    ">",
    "http://example.org/a?b=c&d=%20#e",
    "C:\\Users\\x\\",
    "{\"a\": [1, 2.5, null]}",
    "<a href='x'>y</a>",
    "-----BEGIN-----",
    "________",
    "$$$€€€",
    "(((())))",
    "CamelCaseHTTPServerXMLParser",
    "snake_case_and-kebab-case",
    "ALLCAPS lower Title",
    "éÉèÈ ñÑ",
    "naïve café",
    "A\u{30a}ngstro\u{308}m",
];

/// The fixed texts, and the same with the added tokens of a tokenizer.
pub fn texts(added: &[String]) -> Vec<String> {
    let mut list: Vec<String> = FIXED.iter().map(|t| t.to_string()).collect();
    for run in [
        "a",
        " ",
        "=",
        "7",
        "\n",
        "\t",
        "é",
        "中",
        "🙂",
        "ab",
        "a ",
        " a",
        "▁",
        "'s",
        "e\u{301}",
        "\u{301}",
        "ह\u{94d}",
        "\u{3099}",
        "İ",
        "\u{0}",
    ] {
        for times in [2, 3, 4, 5, 8, 15, 16, 17, 31, 64, 127, 128, 129, 255, 256, 257, 400] {
            list.push(run.repeat(times));
            list.push(format!("x{}y", run.repeat(times)));
        }
    }
    // Marks whose classes go down: the reference sorts them, however many they are.
    for times in [3, 20, 70, 200] {
        list.push(format!("a{}", "\u{345}\u{301}\u{323}".repeat(times)));
        list.push(format!("가{}b", "\u{302a}\u{3099}\u{334}".repeat(times)));
    }
    for control in (0u32..32).chain(127..160).filter_map(char::from_u32) {
        list.push(format!("a{control}b {control} c{control}{control}"));
    }
    for token in added.iter().take(64) {
        around(token, &mut list);
    }
    for pair in added.windows(2).take(64) {
        list.push(pair.concat());
        list.push(format!("{} {}", pair[0], pair[1]));
        let half: String = pair[0].chars().take(pair[0].chars().count() / 2).collect();
        list.push(format!("{half}{}", pair[1]));
    }
    list
}

/// One added token whole, cut, in other letters and beside all sorts of neighbours.
fn around(token: &str, list: &mut Vec<String>) {
    let count = token.chars().count();
    let head = |n: usize| token.chars().take(n).collect::<String>();
    let tail = |n: usize| token.chars().skip(n).collect::<String>();
    for (before, after) in [
        ("", ""),
        ("x", "y"),
        (" ", " "),
        ("  \n", "\t "),
        ("é", "\u{301}"),
        ("1", "2"),
        ("\u{a0}", "\u{3000}"),
        ("'", "'s"),
    ] {
        list.push(format!("{before}{token}{after}"));
    }
    list.push(format!("{token}{token}"));
    list.push(format!("a {token} b {token}c"));
    list.push(token.to_uppercase());
    list.push(token.to_lowercase());
    for cut in [1, count / 2, count.saturating_sub(1)] {
        list.push(format!("x{}", head(cut)));
        list.push(format!("{}x", tail(cut)));
        list.push(format!("{} {}", head(cut), tail(cut)));
        list.push(format!("{}{token}", head(cut)));
    }
}

/// Texts of tens of thousands of characters that tempt a tokenizer to look at everything again for each.
pub fn long() -> Vec<String> {
    let mut list: Vec<String> =
        ["a", " ", "ab", "aab", "7", "=", "\n", "é", "中", "e\u{301}", "\u{301}", "a ", "'", "x\u{200d}", "Aa", "the"]
            .iter()
            .map(|run| run.repeat((1 << 15) / run.len()))
            .collect();
    list.push(FIXED.join(" "));
    list.push(FIXED.concat());
    list
}

/// Chars of a text that names a range of code points.
const GROUP: u32 = 64;
pub const ALL: u64 = (0x11_0000 / GROUP) as u64;

/// Text `number` of two for each 64 code points: each between other classes, and all in a row.
pub fn code_points(number: u64) -> String {
    let first = ((number / 2) as u32).saturating_mul(GROUP);
    let chars = (first..first.saturating_add(GROUP)).filter_map(char::from_u32);
    if number.is_multiple_of(2) {
        chars.map(|c| format!("a{c}1 {c}")).collect()
    } else {
        chars.collect()
    }
}

/// One of each sixteen code points where something is assigned: blocks begin and end at multiples of sixteen.
pub fn blocks() -> Vec<String> {
    let assigned = (0..0x3_23b0u32).chain(0xe_0000..0xe_01f0).chain([0xf_0000, 0x10_0000]);
    let one = |c: u32| char::from_u32(c + c / 16 % 13);
    let chars: Vec<char> = assigned.filter(|c| c % 16 == 0).filter_map(one).collect();
    chars.chunks(32).map(|c| c.iter().map(|c| format!("{c} {c}a")).collect()).collect()
}

/// Bytes that are not UTF-8: only a device takes them.
pub fn stray() -> Vec<Vec<u8>> {
    let mut list: Vec<Vec<u8>> = (0x80..=0xff).map(|b| vec![b]).collect();
    let bad: [&[u8]; 22] = [
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc3",
        b"a\xc3",
        b"\xc3a",
        b"\xe4\xb8",
        b"\xe4\xb8a",
        b"\xe4\xe4\xb8\xad",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x9f\x99",
        b"\xf0\x9f\x99 \x82",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff\xfe",
        b"\xbf\xbf\xbf",
        b"a\x80b",
        b" \x80 ",
        b"\xcc\x81\xcc",
        b"e\xcc\x81\x81",
    ];
    list.extend(bad.iter().map(|b| b.to_vec()));
    list.extend(bad.iter().map(|b| [b"hello ", *b, b" world"].concat()));
    list.push(bad.concat());
    list.push(vec![0x80; 300]);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_point_is_in_a_text() {
        let all: u32 = (0..2 * ALL).step_by(2).map(|n| code_points(n + 1).chars().count() as u32).sum();
        assert_eq!(all, 0x11_0000 - 0x800);
        assert!(code_points(2).contains("aA1 A") && code_points(u64::MAX).is_empty());
    }

    #[test]
    fn every_block_is_in_a_text() {
        // Blocks of sixteen code points, at the ends of the planes that have any.
        let all = blocks().concat();
        for column in [0x0u32, 0x2c0, 0xfff0, 0x1_fbf0, 0x2_fa10, 0x3_23a0, 0xe_0000, 0xe_01e0] {
            assert!(all.chars().any(|c| u32::from(c) / 16 == column / 16), "{column:x}");
        }
    }

    #[test]
    fn stray_bytes_are_no_utf8() {
        assert!(stray().iter().all(|b| std::str::from_utf8(b).is_err()));
    }

    #[test]
    fn tokens_are_whole_and_cut() {
        let list = texts(&["<|end|>".into(), "<s>".into()]);
        for t in ["x<|end|>y", "<|end|><s>", "<|e<|end|>", "x<|e", "<|e nd|>"] {
            assert!(list.iter().any(|l| l == t || l.contains(t)), "{t}");
        }
    }
}
