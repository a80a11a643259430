# model_wasm.S - the packed model as bytes of the module
    .section .rodata.bitnet_model, "", @
    .type bitnet_model_words, @object
    .globl bitnet_model_words
    .p2align 6
bitnet_model_words:
    .incbin "model.bin"
.Lend:
    .size bitnet_model_words, .Lend - bitnet_model_words
    .type bitnet_model_bytes, @object
    .globl bitnet_model_bytes
    .p2align 2
bitnet_model_bytes:
    .int32 .Lend - bitnet_model_words
    .size bitnet_model_bytes, 4
