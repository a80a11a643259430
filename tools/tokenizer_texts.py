"""Strings that tokenizers get wrong: the cases of fixtures/tokenizers/*/golden.json, and seeds of tools/tokenizer_fuzz.py."""

NASTY = [
    "", " ", "  ", "\n", "a", "the", " the", "the ", "  the  pump ", "\tthe\t\tpump", "the\npump\r\nis\ron\n\n", " \n \n", "\x0b\x0c\x1c\x85x",
    "Water the tomatoes at 6:30, please.", "WATER the BaSiL", "the the the the", "thethethe pumppump",
    # Contractions
    "it's we're I'll I'd they've I'm don't", "IT'S WE'RE I'LL I'D THEY'VE I'M", "it'S we'Re I'Ll 'tis ''s x's'st 's", "'\u017f it'\u017ft a'\u017f \u017fea \u017f",
    "don\u2019t we\u2019re", "do not n't 's 'm 've 're . ? ! , ' x",
    # Numbers
    "1 22 333 4444 55555 666666", "a1b22c333 3.14 1,234.5 -0x7F 1e-9", "\u0661\u0662\u0663 \u096a\u096b \u0e51\u0e52 \uff11\uff12\uff13\uff14 \U0001d7d8\U0001d7d9", "\u00bd\u00b2\u2167\u2460\u32fe\u0f33\u3021", "9" * 16,
    # Every kind of white space
    "a\u00a0b\u1680c\u2000d\u2003e\u2009f\u200ag\u202fh\u205fi\u3000j", "a\u2028b\u2029c", "\u3000\u3000x \u00a0 y", "x   \u00a0  ", "a\u200bb\u200cc\u200dd\u2060e\ufefff\u180eg", "\ufeffBOM",
    # Marks and composition
    "e\u0301 \u00e9 E\u0301\u0323 E\u0323\u0301 \u1eb8\u0301", "\u0301start \u0301 a\u0308\u0308\u0308", "q\u0307\u0323 q\u0323\u0307 \u1e0a\u0323 \u1e0d\u0307",
    "a" + "\u0301\u0323\u0327" * 11 + "b", "\u212b \u2126 \u1e9b\u0323 \u2000 \u0344 \u0958 \u2adc \U0001d15e", "\ufb01 \ufb03 \uff21\uff42\uff0d \u2122 \u2026 \u33a1 \ufdfa \u3231",
    "\u0130I\u0131i \u1e9e\u00df \u01c5\u01c4\u01c6 \u03a3\u03c3\u03c2 \u0390", "\u0928\u093f \u0915\u094d\u0937 \u0939\u093f\u0928\u094d\u0926\u0940", "\u05e9\u05bc\u05c1 \ufb2c \u05d0\u05b7",
    # Hangul, whole and in jamo
    "\ud55c\uad6d \u1112\u1161\u11ab\u1100\u116e\u11a8 \u1112\u1161 \u11ab \uac00\u11a8 \u3131\u314f", "\u1100\u1161\u1161\u11a8\u11a8\uac01\u11a8",
    # Scripts
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u4eca\u5929", "\u3053\u3093\u306b\u3061\u306f \u30ab\u3099 \u30ac \uff76\uff9e \uff8a\uff9f", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0439 \u0438\u0306",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0644\u0622", "\u0e44\u0e1f\u0e40\u0e1b\u0e34\u0e14\u0e2d\u0e22\u0e39\u0e48 \u0e33", "\u039f \u03b1\u03b9\u03c3\u03b8\u03b7\u03c4\u03ae\u03c1\u03b1\u03c2",
    "mixed\u4e2d\u6587and\u0440\u0443\u0441\u0441\u043a\u0438\u0439\u05e9\u05dc\u05d5\u05dd123\u0661", "\U00020000\U0002a6df\u3400\uf900\ufa0e \U0002f800", "\U00010400\U00010428 \U0001e921\U0001d573\U0001d58e \U00010348",
    "Stra\u00dfe gr\u00f6\u00dfer na\u00efve fa\u00e7ade \u0141\u00f3d\u017a \u0110\u1eafk L\u1eafk",
    # Emoji
    "\U0001f600 \U0001f603\U0001f44d\U0001f3fd \u2764\ufe0f", "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea\U0001f1ea\U0001f1fa\U0001f1e9 1\ufe0f\u20e3 \U0001f3f4\U000e0067\U000e0062\U000e007f",
    # Control bytes, private use, the last code points
    "\x00", "a\x00b\x01c\x1bd\x7fe\x80f\x9fg", "soft\u00adhyphen \u202eright\u202c \u061c", "\ufffd \ufffc \ufffe \uffff", "\ue000\U000f0000\U0010ffff", "x\ufffd\ufffdy",
    # Characters that tokenizers use inside
    "\u2581", "\u2581the \u2581pump", "the\u2581pump \u2581 \u2581\u2581x", " \u2581 ", "\u0120the \u010a \u0100\u00c4", "##ing a##b ## #", "<0x41> <0x0A> <0xZZ>", "\u2047 \u2047",
    # Special tokens in the text
    "<s>hi</s> <unk> <pad>", "<|endoftext|>", "a<|endoftext|>b <|endoftext|> c", "<|im_start|>user\nhi<|im_end|>\n", "<|endoftex|> <|endoftext |> <|<|endoftext|>|>", "[CLS] a [SEP][MASK]b [UNK] [cls]",
    "  <sep>  <sep>x  <left> <right>\t\ty <LOW> <low> <Low>\u00e9 e\u0301t\u00e9 <mask>", "<extra_id_0> <extra_id_1>the<extra_id_0>",
    # Symbols
    "!!! ??? ... --- === *** ### $$$ @@@ <<>>", "for (int i = 0; i < 10; i++) x[i] += 0x7f; // ok\n", "https://example.org/a_b?c=%20d#e", "...\n\n...\n ?\n", "$5 \u20ac5 \u00a7 \u00ab\u2039\u00bb \u2018a\u2019 \u201cb\u201d \u2013\u2014 ^`|~+ \u00b1\u00d7",
    # Long runs
    "a" * 35, " " * 20 + "x", "=" * 40, "\n" * 9 + "x", "ab" * 15, "\u00e9" * 12, "\u4e16" * 8, "supercalifragilisticexpialidocious", "measures" * 5, "\U0001f600" * 4,
]
