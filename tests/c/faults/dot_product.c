/* sdot v0.4s, v1.16b, v2.16b: Armv8.2, so not for a Cortex-A53 or A72. */
int bitnet_main(void);
int bitnet_main(void)
{
    __asm__ volatile(".inst 0x4e829420" ::: "v0");
    return 7;
}
