/* adapter.S - an adapter beside the model (make emulator ADAPTER=file) */
    .section .rodata.bitnet_adapter, "a", %progbits
    .balign 4
    .global bitnet_adapter_data
bitnet_adapter_data:
    .incbin BITNET_ADAPTER
adapter_end:
    .balign 4
    .global bitnet_adapter_bytes
bitnet_adapter_bytes:
    .long adapter_end - bitnet_adapter_data
#if defined(__linux__)
    .section .note.GNU-stack, "", %progbits
#endif
