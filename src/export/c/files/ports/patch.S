/* patch.S - a patch beside the model, and the text of a public key (make delta PATCH=file KEY=file) */
    .section .rodata.bitnet_patch, "a", %progbits
    .balign 4
    .global bitnet_patch_data
bitnet_patch_data:
    .incbin BITNET_PATCH
patch_end:
    .balign 4
    .global bitnet_patch_bytes
bitnet_patch_bytes:
    .long patch_end - bitnet_patch_data
    .global bitnet_patch_key
bitnet_patch_key:
#if defined(BITNET_KEY)
    .incbin BITNET_KEY
#endif
key_end:
    .balign 4
    .global bitnet_patch_key_bytes
bitnet_patch_key_bytes:
    .long key_end - bitnet_patch_key
#if defined(__linux__)
    .section .note.GNU-stack, "", %progbits
#endif
