/*
 * bitnet_features.h - what is compiled: 1 or 0 for each part that a model may
 * do without.  model.h of an exported folder says what its model needs, and
 * the Makefile includes it before every source; without it, everything is
 * compiled.  bitnet_init answers BITNET_E_FEATURE to a model that needs more.
 */
#ifndef BITNET_FEATURES_H
#define BITNET_FEATURES_H

/* operations */
#ifndef BITNET_OP_RMSNORM
#define BITNET_OP_RMSNORM 1
#endif
#ifndef BITNET_OP_RELU2MUL
#define BITNET_OP_RELU2MUL 1
#endif
#ifndef BITNET_OP_SILUMUL
#define BITNET_OP_SILUMUL 1
#endif
#ifndef BITNET_OP_LOGITS
#define BITNET_OP_LOGITS 1
#endif
#ifndef BITNET_OP_NORM
#define BITNET_OP_NORM 1
#endif
#ifndef BITNET_OP_BIAS
#define BITNET_OP_BIAS 1
#endif
#ifndef BITNET_OP_GAIN
#define BITNET_OP_GAIN 1
#endif
#ifndef BITNET_OP_ACT
#define BITNET_OP_ACT 1
#endif
#ifndef BITNET_OP_GATE
#define BITNET_OP_GATE 1
#endif
#ifndef BITNET_OP_STORE
#define BITNET_OP_STORE 1
#endif
#ifndef BITNET_OP_POSITION
#define BITNET_OP_POSITION 1
#endif
#ifndef BITNET_OP_ROPE
#define BITNET_OP_ROPE 1
#endif
#ifndef BITNET_OP_EMBEDDING
#define BITNET_OP_EMBEDDING 1
#endif

/* kernels of LINEAR, kinds of matrices */
#ifndef BITNET_KERNEL_LOOKUP /* hint 2 */
#define BITNET_KERNEL_LOOKUP 1
#endif
#ifndef BITNET_KERNEL_PLANES /* hint 1 */
#define BITNET_KERNEL_PLANES 1
#endif
#ifndef BITNET_KIND_TERNARY5
#define BITNET_KIND_TERNARY5 1
#endif
#ifndef BITNET_KIND_INT4
#define BITNET_KIND_INT4 1
#endif
#ifndef BITNET_KIND_PLANES4
#define BITNET_KIND_PLANES4 1
#endif

/* kinds of ACT and GATE: bit 1 relu ... bit 6 tanh */
#ifndef BITNET_KINDS
#define BITNET_KINDS 0x7Eu
#endif
#if (BITNET_OP_ACT || BITNET_OP_GATE) && (BITNET_KINDS & 0x7Eu) == 0u
#error "ACT and GATE need at least one of their kinds"
#endif

/* options of operations */
#ifndef BITNET_WITH_ENCODER /* every token sees every token */
#define BITNET_WITH_ENCODER 1
#endif
#ifndef BITNET_WITH_TABLES /* EMBED, POSITION: other matrices than int8 or int16 with row scales */
#define BITNET_WITH_TABLES 1
#endif
#ifndef BITNET_WITH_WIDE /* LINEAR with sums beyond 30 bits: long rows of int8 or int16 and codes i16 */
#define BITNET_WITH_WIDE 1
#endif
#ifndef BITNET_WITH_FACTORS /* EMBED, ADD, LOGITS with a factor */
#define BITNET_WITH_FACTORS 1
#endif
#ifndef BITNET_WITH_CAPS /* ATTEND, LOGITS with a cap */
#define BITNET_WITH_CAPS 1
#endif
#ifndef BITNET_WITH_SLOPES /* ATTEND with slopes */
#define BITNET_WITH_SLOPES 1
#endif
#ifndef BITNET_WITH_WINDOWS /* ATTEND with a window of its own */
#define BITNET_WITH_WINDOWS 1
#endif
#ifndef BITNET_WITH_LORA /* adapters: bitnet_lora_load */
#define BITNET_WITH_LORA 1
#endif
#ifndef BITNET_WITH_PARTIAL /* heads that are rotated in part or not at all */
#define BITNET_WITH_PARTIAL 1
#endif

/* the tokenizer: models, normalizer, ways of cutting words */
#ifndef BITNET_TOK_BPE
#define BITNET_TOK_BPE 1
#endif
#ifndef BITNET_TOK_CHARS /* BPE over characters, with BITNET_TOK_BPE */
#define BITNET_TOK_CHARS 1
#endif
#ifndef BITNET_TOK_LATE /* merges that come last whatever their ids */
#define BITNET_TOK_LATE 1
#endif
#ifndef BITNET_TOK_UNIGRAM
#define BITNET_TOK_UNIGRAM 1
#endif
#ifndef BITNET_TOK_WORDPIECE
#define BITNET_TOK_WORDPIECE 1
#endif
#ifndef BITNET_TOK_NORMAL /* a normalizer, or tokens that are looked for in normalized text */
#define BITNET_TOK_NORMAL 1
#endif
#ifndef BITNET_TOK_STRIPS /* tokens that take white space beside them */
#define BITNET_TOK_STRIPS 1
#endif
#ifndef BITNET_TOK_MODERN /* splitters 3, 4 and 7 */
#define BITNET_TOK_MODERN 1
#endif
#ifndef BITNET_TOK_CASED /* splitter 7, with BITNET_TOK_MODERN */
#define BITNET_TOK_CASED 1
#endif
#ifndef BITNET_TOK_BLANKS /* splitters 5 and 6 */
#define BITNET_TOK_BLANKS 1
#endif
#ifndef BITNET_TOK_UNDERLINES /* U+2581: words 2 and 3, and what a decoder does with it */
#define BITNET_TOK_UNDERLINES 1
#endif
#ifndef BITNET_TOK_CHAT /* conversations: bitnet_tok_chat.h */
#define BITNET_TOK_CHAT 1
#endif

#endif
