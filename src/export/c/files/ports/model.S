/* model.S - the packed model as bytes (EMBED=incbin) */
    .section .bitnet_model, "a", %progbits
    .balign 64
    .global bitnet_model_words
bitnet_model_words:
    .incbin "model.bin"
model_end:
    .balign 4
    .global bitnet_model_bytes
bitnet_model_bytes:
    .long model_end - bitnet_model_words
#if defined(__linux__)
    .section .note.GNU-stack, "", %progbits
#endif
