/* mov.w r0, #1: an instruction that a Cortex-M0 does not have. */
int bitnet_main(void);
int bitnet_main(void)
{
    __asm__ volatile(".short 0xf04f, 0x0001" ::: "r0");
    return 7;
}
