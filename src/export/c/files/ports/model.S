/* model.S - the packed model as bytes (EMBED=incbin) */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    .section .bitnet_model, "aw", %progbits /* turned into this machine's byte order at the start */
#else
    .section .bitnet_model, "a", %progbits
#endif
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
