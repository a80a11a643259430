/* One floating-point instruction, in its encoding: the compiler is told to make none. */
int bitnet_main(void);
int bitnet_main(void)
{
#if defined(__arm__)
    __asm__ volatile(".inst.w 0xee300a00"); /* vadd.f32 s0, s0, s0 */
#else
    __asm__ volatile(".word 0x00007053"); /* fadd.s f0, f0, f0 */
#endif
    return 7;
}
